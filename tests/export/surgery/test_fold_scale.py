"""The pass fold-scale: pixels lose their mean, the first convolution scales them, and the numbers stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_graphs import Array, graph, integers, noise, ops, run

from export.surgery.pass_manager import run_passes
from export.to_onnx import ToOnnxOptions, to_onnx
from networks.deployable import build_deployable
from vidom.formats.recipe import load_recipe

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def pixels(*shape: int) -> Array:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def assert_close(found: Array, expected: Array) -> None:
    """Equal but for the order in which some hundred float32 products are summed."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * float(np.abs(expected).max()))


def folded(model: ir.Model) -> ir.Model:
    return run_passes(model, passes=("fold-constants", "fold-scale", "dead-node-elimination")).model


def dims(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def stem(
    shape: tuple[int, ...],
    target: tuple[int, ...],
    weights: Array,
    *,
    mean: Array,
    std: Array,
    group: int = 1,
) -> ir.Model:
    """Cast, Add, Div, Reshape to `target`, Conv with the zero padding of its kernel: what the exporter writes."""
    sides = ",".join(str(side // 2) for side in weights.shape[2:])
    text = f"""stem (uint8{dims(shape)} x) => (float{dims(("n", *"cthw"[: len(target) - 1]))} y) {{
      numbers = Cast<to = 1>(x)
      centred = Add(numbers, minus_mean)
      scaled = Div(centred, std)
      frames = Reshape(scaled, target)
      y = Conv<pads = [{sides},{sides}], group = {group}>(frames, w, bias)
    }}"""
    return graph(
        text, minus_mean=-mean, std=std, target=integers(*target), w=weights, bias=noise(len(weights), seed=5)
    )


LAYOUTS = {
    # shape of a batch, what it is reshaped to, the convolution's weights, shape of mean and std, groups
    "NCHW": ((2, 4, 3, 6, 5), (-1, 3, 6, 5), (4, 3, 3, 3), (1, 1, 3, 1, 1), 1),
    "NCTHW": ((2, 3, 3, 4, 6, 5), (-1, 3, 4, 6, 5), (4, 3, 3, 3, 3), (1, 1, 3, 1, 1, 1), 1),
    "stacked": ((2, 4, 15, 6, 5), (-1, 15, 6, 5), (4, 15, 3, 3), (1, 1, 15, 1, 1), 1),
    "depthwise": ((2, 4, 3, 6, 5), (8, 3, 6, 5), (6, 1, 3, 3), (1, 1, 3, 1, 1), 3),
    "channels broadcast from the right": ((2, 4, 3, 6, 5), (8, 3, 6, 5), (4, 3, 3, 3), (3, 1, 1), 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_scale_is_folded_into_the_first_convolution_of_every_layout(layout: str) -> None:
    shape, target, kernel, channels, group = LAYOUTS[layout]
    weights = noise(*kernel)
    mean, std = (np.resize(numbers, np.prod(channels)).reshape(channels) for numbers in (MEAN, STD))
    model = stem(shape, target, weights, mean=mean, std=std, group=group)
    after = folded(model)
    assert ops(after) == ["Cast", "Sub", "Reshape", "Conv"]
    x = pixels(*shape)
    wide = torch.from_numpy((x.astype(np.float64) - mean) / std.astype(np.float64)).reshape(target)
    convolve = torch.nn.functional.conv3d if len(target) == 5 else torch.nn.functional.conv2d
    truth = convolve(
        wide,
        torch.from_numpy(weights).double(),
        torch.from_numpy(noise(len(weights), seed=5)).double(),
        padding=[side // 2 for side in weights.shape[2:]],
        groups=group,
    ).numpy()
    for found in (run(model, x)[0], run(after, x)[0]):
        assert_close(found, truth)


@pytest.mark.parametrize(
    "arithmetic",
    [
        "a = Div(numbers, scale_255)  b = Add(a, minus_mean)  y = Div(b, std)",
        "a = Mul(part, numbers)  b = Sub(a, mean)  y = Mul(b, inverse)",
        "a = Mul(numbers, inverse)  b = Mul(a, part)  y = Add(lessscaled, b)",
    ],
)
def test_scale_mean_and_std_are_recognized_in_every_form(arithmetic: str) -> None:
    mean, std = MEAN.reshape(3, 1, 1) / 255, STD.reshape(3, 1, 1) / 255
    model = graph(
        f"""g (uint8[2,3,8,8] x) => (float[2,4,6,6] out) {{
          numbers = Cast<to = 1>(x)
          {arithmetic}
          out = Conv(y, w) }}""",
        w=noise(4, 3, 3, 3),
        scale_255=np.array(255, np.float32),
        part=np.array([1 / 255], np.float32),
        mean=mean,
        minus_mean=-mean,
        std=std,
        inverse=1 / std,
        lessscaled=-mean / std,
    )
    after = folded(model)
    assert ops(after) == ["Cast", "Sub", "Conv"]
    (subtracted,) = [node.inputs[1] for node in after.graph if node.op_type == "Sub"]
    assert subtracted is not None and subtracted.const_value is not None
    np.testing.assert_allclose(subtracted.const_value.numpy().ravel(), MEAN, rtol=3e-7)
    x = pixels(2, 3, 8, 8)
    assert_close(run(after, x)[0], run(model, x)[0])


def test_the_scale_follows_the_channels_through_whatever_moves_them() -> None:
    model = graph(
        """g (uint8[2,5,6,3] x) => (float[2,4,5,6] y) {
          numbers = Cast<to = 1>(x)
          scaled = Div(numbers, std)
          planes = Transpose<perm = [0, 3, 1, 2]>(scaled)
          backwards = Slice(planes, last, first, axis, step)
          one = Unsqueeze<axes = [1]>(backwards)
          frames = Squeeze<axes = [1]>(one)
          y = Conv<pads = [1,1,1,1]>(frames, w)
        }""",
        std=STD,
        w=noise(4, 3, 3, 3),
        last=integers(2),
        first=integers(np.iinfo(np.int64).min),
        axis=integers(1),
        step=integers(-1),
    )
    after = folded(model)
    assert "Div" not in ops(after) and "Sub" not in ops(after)
    x = pixels(2, 5, 6, 3)
    assert_close(run(after, x)[0], run(model, x)[0])


COLOURS_IN_A_CHANNEL = ((1, 3, 10, 6, 5), (-1, 15, 6, 5), (4, 15, 3, 3), (1, 3, 1, 1, 1))


@pytest.mark.parametrize("std", [STD, np.repeat(STD[:1], 3)], ids=["three", "one"])
def test_planes_whose_channels_hold_several_colours_are_folded_only_with_one_scale(std: Array) -> None:
    shape, target, kernel, channels = COLOURS_IN_A_CHANNEL
    model = stem(shape, target, noise(*kernel), mean=MEAN.reshape(channels), std=std.reshape(channels))
    after = folded(model)
    assert ("Div" in ops(after)) == (len(set(std)) > 1)
    x = pixels(*shape)
    assert_close(run(after, x)[0], run(model, x)[0])


NOT_FOLDED = {
    "a further user": "a = Sub(numbers, mean) b = Div(a, std) c = Conv(b, w) d = ReduceMean(b) y = Add(c, d)",
    "no scale": "a = Sub(numbers, mean) y = Conv(a, w)",
    "a scale for each row": "a = Sub(numbers, mean) b = Div(a, rows) y = Conv(b, w)",
    "a scale for each frame": "a = Sub(numbers, mean) b = Div(a, frame_scale) y = Conv(b, w)",
    "a scale of 0": "a = Sub(numbers, mean) b = Mul(a, zero) y = Conv(b, w)",
    "a pixel in the denominator": "a = Sub(numbers, mean) b = Div(std, a) y = Conv(b, w)",
    "more than movement": "a = Sub(numbers, mean) b = Div(a, std) c = Relu(b) y = Conv(c, w)",
    "computed weights": """a = Sub(numbers, mean) b = Div(a, std)
        same = Cast<to = 1>(x) most = ReduceMax<keepdims = 1>(same) v = Mul(w, most) y = Conv(b, v)""",
}


@pytest.mark.parametrize("reason", NOT_FOLDED)
def test_what_is_not_a_scale_of_input_channels_alone_is_left(reason: str) -> None:
    model = graph(
        f"""g (uint8[2,3,8,8] x) => (float[a,b,c,d] y) {{
          numbers = Cast<to = 1>(x)
          {NOT_FOLDED[reason]} }}""",
        mean=MEAN.reshape(3, 1, 1) + np.float32(0.5),
        std=STD.reshape(3, 1, 1),
        zero=np.zeros((3, 1, 1), np.float32),
        rows=np.linspace(50, 60, 8, dtype=np.float32).reshape(8, 1),
        frame_scale=np.array([50, 60], np.float32).reshape(2, 1, 1, 1),
        w=noise(4, 3, 3, 3),
    )
    before = ops(model)
    assert not run_passes(model, passes=("fold-scale",)).modified
    assert ops(folded(model)) == before


def test_inputs_other_than_pixels_are_left() -> None:
    text = "g (float[2,3,8,8] x) => (float[2,4,6,6] y) { a = Div(x, std) y = Conv(a, w) }"
    model = graph(text, std=STD.reshape(3, 1, 1), w=noise(4, 3, 3, 3))
    assert not run_passes(model, passes=("fold-scale",)).modified


def test_weights_shared_with_a_second_convolution_are_unchanged_there() -> None:
    model = graph(
        """g (uint8[2,3,8,8] x) => (float[2,4,6,6] y) {
          numbers = Cast<to = 1>(x) scaled = Div(numbers, std) a = Conv(scaled, w)
          same = Cast<to = 1>(x) b = Conv(same, w)
          y = Mul(a, b) }""",
        std=STD.reshape(3, 1, 1),
        w=noise(4, 3, 3, 3),
    )
    after = run_passes(model, passes=("fold-scale",)).model
    assert ops(after).count("Div") == 0 and ops(after).count("Conv") == 2
    x = pixels(2, 3, 8, 8)
    assert_close(run(after, x)[0], run(model, x)[0])


@settings(max_examples=30, deadline=None)
@given(
    lead=st.sampled_from([(1, 4), (2, 2), (2, 6)]),
    colours=st.sampled_from([1, 3, 6]),
    channels=st.sampled_from([1, 2, 3, 4, 6, 12]),
    varies=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_outputs_are_unchanged_for_any_shapes(
    lead: tuple[int, int], colours: int, channels: int, varies: list[bool]
) -> None:
    shape = (*lead, colours, 4, 4)
    if np.prod(shape[:3]) % channels:
        return
    spread = [size if chosen else 1 for size, chosen in zip(shape[:3], varies, strict=True)]
    std = np.linspace(40, 70, int(np.prod(spread)), dtype=np.float32).reshape(*spread, 1, 1)
    weights = noise(2, channels, 3, 3)
    model = stem(shape, (-1, channels, 4, 4), weights, mean=np.full((1,) * 5, 120, np.float32), std=std)
    x = pixels(*shape)
    assert_close(run(folded(model), x)[0], run(model, x)[0])


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_of_uint8_input_gives_the_probabilities_of_the_float32_one(
    batch: int, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(str(tiny_recipe))
    paths = {
        dtype: to_onnx(
            ToOnnxOptions(
                recipe=recipe, checkpoint="seeded:0", output=tmp_path / f"{dtype}.onnx", input_dtype=dtype
            )
        )
        for dtype in ("float32", "uint8")
    }
    after = run_passes(paths["uint8"], batch_size=batch)
    assert "fold-scale" in [step.name for step in after.steps if step.modified]
    assert not run_passes(after.model).modified
    x = pixels(*recipe.input_shape(batch))
    normalised = (x.astype(np.float32) - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)
    (found,) = run(after.model, x)
    (as_float,) = run(run_passes(paths["float32"], batch_size=batch).model, normalised)
    deployable, _ = build_deployable(recipe, "seeded:0")
    with torch.no_grad():
        truth = deployable(torch.from_numpy(normalised)).numpy()
    assert float(truth.max() - truth.min()) > 1e-3
    np.testing.assert_allclose(found, as_float, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-6)
