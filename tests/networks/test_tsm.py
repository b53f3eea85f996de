"""TSM against the outputs, shapes and layers of the original mmaction2 network."""

from __future__ import annotations

import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import networks.tsm
from networks.seeded import seeded_state_dict
from networks.shift import temporal_shift
from networks.tsm import TSM
from vidom.errors import UsageError

CLASSES = {"sthv2": 174, "k400": 400, "ucf101": 101}
CLIP_SEEDS = {
    "noise_1x8x224": 0,
    "noise_1x8x64": 1,
    "noise_3x8x64": 2,
    "noise_1x48x64": 3,
    "noise_2x48x32": 4,
    "noise_1x16x72x56": 5,
    "noise_1x48x256": 0,
}
STAGES = ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4")
LOGITS_TOLERANCE = 3e-4
PROBABILITY_TOLERANCE = 5e-5


def seeded(network: TSM, *, seed: int = 0) -> TSM:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=seed))
    return network.eval()


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def run(network: nn.Module, clips: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(clips).numpy()


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mmaction2"


@pytest.fixture(scope="module")
def sthv2() -> TSM:
    return seeded(TSM(depth=50, num_classes=174))


@pytest.fixture(scope="module")
def k400() -> TSM:
    return seeded(TSM(depth=50, num_classes=400))


@pytest.fixture
def small() -> TSM:
    return seeded(TSM(depth=10, num_classes=5, base_channels=16))


@pytest.mark.slow
@pytest.mark.parametrize("dataset", CLASSES)
def test_state_dict_is_mmaction2s_and_the_seeded_tensors_are_the_fixtures(truths: Path, dataset: str) -> None:
    expected = json.loads((truths / f"tsm_{dataset}_keys.json").read_text())["entries"]
    state = TSM(depth=50, num_classes=CLASSES[dataset]).state_dict()
    found = [(key, list(value.shape), str(value.dtype)) for key, value in state.items()]
    assert found == [(entry["key"], entry["shape"], f"torch.{entry['dtype']}") for entry in expected]
    filled = seeded_state_dict({key: value.shape for key, value in state.items()}, seed=0)
    crcs = {key: zlib.crc32(value.numpy().tobytes()) for key, value in filled.items()}
    assert crcs == {entry["key"]: entry["crc32"] for entry in expected}


def test_layers_have_the_settings_of_the_original(truths: Path, sthv2: TSM) -> None:
    for layer in json.loads((truths / "tsm_sthv2_layers.json").read_text()):
        module: Any = sthv2.get_submodule(layer["name"])
        match layer["type"]:
            case "Conv2d":
                found = (
                    module.in_channels,
                    module.out_channels,
                    *map(list, (module.kernel_size, module.stride)),
                )
                found += (list(module.padding), list(module.dilation), module.bias is not None)
                expected = tuple(layer[name] for name in ("i", "o", "k", "s", "p", "d", "bias"))
            case "BatchNorm2d":
                found = (module.num_features, module.eps, module.momentum)
                expected = (layer["c"], layer["eps"], layer["momentum"])
            case "MaxPool2d":
                found = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
                expected = tuple(layer[name] for name in ("k", "s", "p", "ceil"))
            case "TemporalShift":
                found = (module.shift.num_segments, module.shift.shift_div, module.net.in_channels)
                expected = (layer["num_segments"], layer["shift_div"], layer["channels"])
            case _:
                found, expected = repr(module), layer["repr"]
        assert found == expected, layer["name"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "tag"),
    [
        *((dataset, tag) for dataset in ("sthv2", "k400") for tag in CLIP_SEEDS if tag != "noise_1x48x256"),
        # The largest input is recorded for sthv2 only.
        pytest.param("sthv2", "noise_1x48x256", marks=pytest.mark.slow),
    ],
)
def test_logits_and_averages_equal_the_originals(
    truths: Path, request: pytest.FixtureRequest, dataset: str, tag: str
) -> None:
    with np.load(truths / f"tsm_{dataset}_out.npz") as archive:
        truth = {
            name.removeprefix(f"{tag}/"): archive[name]
            for name in archive.files
            if name.startswith(f"{tag}/")
        }
    clips = noise(CLIP_SEEDS[tag], tuple(truth["shape"]))
    assert zlib.crc32(clips.numpy().tobytes()) == truth["input_crc32"]
    network = request.getfixturevalue(dataset)
    if tag == "noise_1x48x256":
        # Clips are independent; one at a time they need a tenth of the time and memory.
        logits = np.concatenate([run(network, clip[None]) for clip in clips[0].split(8)])
    else:
        logits = run(network, clips)
    np.testing.assert_allclose(logits, truth["dummy_logits"], rtol=0, atol=LOGITS_TOLERANCE)
    videos = logits.reshape(len(clips), -1, CLASSES[dataset])
    np.testing.assert_allclose(videos.mean(axis=1), truth["test_score"], rtol=0, atol=LOGITS_TOLERANCE)
    probabilities = torch.from_numpy(videos).softmax(dim=-1).mean(dim=1)
    np.testing.assert_allclose(probabilities, truth["test_prob"], rtol=0, atol=PROBABILITY_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["noise_1x8x64", "noise_1x8x224"])
def test_every_stage_has_the_originals_features(truths: Path, sthv2: TSM, tag: str) -> None:
    features: dict[str, np.ndarray] = {}
    hooks = [
        sthv2.backbone.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: features.update({name: output.numpy().copy()})
        )
        for name in STAGES
    ]
    with np.load(truths / "tsm_sthv2_out.npz") as truth:
        run(sthv2, noise(CLIP_SEEDS[tag], tuple(truth[f"{tag}/shape"])))
        for name in STAGES:
            found = features[name]
            assert found.shape == tuple(truth[f"{tag}/feat/{name}/shape"]), name
            # The archive has the first, middle and last frame, eight channels and a corner.
            picked = found[[0, len(found) // 2, -1], :: found.shape[1] // 8, :3, :3]
            np.testing.assert_allclose(
                picked, truth[f"{tag}/feat/{name}/slice"], rtol=0, atol=LOGITS_TOLERANCE, err_msg=name
            )
            statistics = [found.mean(dtype=np.float64), found.std(dtype=np.float64), found.max()]
            np.testing.assert_allclose(
                statistics, truth[f"{tag}/feat/{name}/stats"], rtol=1e-4, atol=0, err_msg=name
            )
    for hook in hooks:
        hook.remove()


def shift_by_hand(x: np.ndarray, *, num_segments: int, fold: int) -> np.ndarray:
    out = x.copy()
    for frame in range(len(x)):
        place = frame % num_segments
        out[frame, :fold] = x[frame + 1, :fold] if place < num_segments - 1 else 0
        out[frame, fold : 2 * fold] = x[frame - 1, fold : 2 * fold] if place > 0 else 0
    return out


@pytest.mark.parametrize(
    ("num_segments", "channels", "shift_div"), [(8, 16, 8), (4, 19, 4), (3, 8, 2), (1, 8, 8)]
)
def test_shift_moves_channels_within_each_clip(num_segments: int, channels: int, shift_div: int) -> None:
    x = noise(7, (3 * num_segments, channels, 2, 5))
    shifted = temporal_shift(x, num_segments=num_segments, shift_div=shift_div)
    expected = shift_by_hand(x.numpy(), num_segments=num_segments, fold=channels // shift_div)
    np.testing.assert_array_equal(shifted, expected)


def test_shift_pads_with_zero_where_an_activation_is_infinite() -> None:
    shifted = temporal_shift(torch.full((8, 8, 1, 1), torch.inf), num_segments=8, shift_div=8)
    assert shifted[7, 0].item() == 0
    assert shifted[0, 1].item() == 0
    assert not shifted.isnan().any()


def test_shift_has_the_gradient_of_a_linear_map() -> None:
    x = torch.randn(8, 4, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: temporal_shift(x, num_segments=4, shift_div=2), (x,))


def swapped(x: Tensor, **arguments: int) -> Tensor:
    return temporal_shift(x.flip(0), **arguments).flip(0)


def unshifted(x: Tensor, **arguments: int) -> Tensor:
    return x


def too_wide(x: Tensor, *, num_segments: int, shift_div: int) -> Tensor:
    return temporal_shift(x, num_segments=num_segments, shift_div=shift_div // 2)


def across_clips(x: Tensor, *, num_segments: int, shift_div: int) -> Tensor:
    return temporal_shift(x, num_segments=len(x), shift_div=shift_div)


@pytest.mark.parametrize("mistaken", [swapped, unshifted, too_wide, across_clips])
def test_a_wrong_shift_is_detected(
    truths: Path, sthv2: TSM, monkeypatch: pytest.MonkeyPatch, mistaken: Any
) -> None:
    monkeypatch.setattr(networks.tsm, "temporal_shift", mistaken)
    with np.load(truths / "tsm_sthv2_out.npz") as truth:
        logits = run(sthv2, noise(CLIP_SEEDS["noise_3x8x64"], tuple(truth["noise_3x8x64/shape"])))
        assert np.abs(logits - truth["noise_3x8x64/dummy_logits"]).max() > 0.5


def test_only_the_shift_depends_on_the_order_of_frames(small: TSM) -> None:
    control = seeded(TSM(depth=10, num_classes=5, base_channels=16, shift=False))
    clips = noise(3, (1, 8, 3, 32, 32))
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    np.testing.assert_allclose(run(control, clips), run(control, clips[:, order]), rtol=0, atol=1e-5)
    assert np.abs(run(small, clips) - run(small, clips[:, order])).max() > 0.1


def test_the_network_without_shift_has_the_keys_of_tsn() -> None:
    shifted = TSM(depth=18, num_classes=3, base_channels=8).state_dict()
    control = TSM(depth=18, num_classes=3, base_channels=8, shift=False).state_dict()
    assert [key.replace(".net.", ".") for key in shifted] == list(control)


@pytest.mark.parametrize(("depth", "counts"), [(10, (1, 1, 1, 1)), (18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
def test_shallow_networks_have_the_blocks_of_resnet(depth: int, counts: tuple[int, ...]) -> None:
    network = TSM(depth=depth, num_classes=3, base_channels=8)
    stages = [network.backbone.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4)]
    assert tuple(map(len, stages)) == counts
    assert run(network.eval(), noise(0, (2, 16, 3, 32, 40))).shape == (4, 3)


def test_resnet101_shifts_every_second_block() -> None:
    state = TSM(depth=101, num_classes=3, base_channels=8).state_dict()
    shifted = {
        key.split(".")[1] + "." + key.split(".")[2] for key in state if key.endswith("conv1.conv.net.weight")
    }
    counts = {"layer1": 3, "layer2": 4, "layer3": 23, "layer4": 3}
    assert shifted == {f"{stage}.{index}" for stage, count in counts.items() for index in range(0, count, 2)}


def test_a_step_of_training_reaches_every_parameter() -> None:
    network = TSM(depth=10, num_classes=4, base_channels=8)
    nn.functional.cross_entropy(network(noise(0, (4, 8, 3, 32, 32))), torch.arange(4)).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"depth": 51}, "depth"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_segments": 0}, "num_segments"),
        ({"shift_div": 1}, "shift_div"),
        ({"base_channels": 4}, "shift_div"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        TSM(**{"depth": 10, "num_classes": 3, **arguments})


def test_incomplete_clips_are_rejected(small: TSM) -> None:
    with pytest.raises(ValueError, match="12 frames"):
        small(noise(0, (2, 12, 3, 32, 32)))


@pytest.fixture(scope="module", params=[11, 13])
def traced(request: pytest.FixtureRequest) -> Iterator[tuple[TSM, onnx.ModelProto]]:
    network = seeded(TSM(depth=10, num_classes=5, num_segments=4, base_channels=16))
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (noise(0, (1, 8, 3, 32, 40)),),
            stream,  # type: ignore[arg-type]
            opset_version=request.param,
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
        )
    yield network, onnx.load_from_string(stream.getvalue())


def test_traced_graph_has_only_the_nodes_of_the_shift(traced: tuple[TSM, onnx.ModelProto]) -> None:
    counts = Counter(node.op_type for node in traced[1].graph.node)
    counts.pop("Constant")
    assert counts == {
        # Four shifted blocks, the frames of all samples in one dimension, and segments apart in the head.
        **{"Reshape": 4 * 2 + 2, "Slice": 4 * 5, "Pad": 4 * 2, "Concat": 4},
        # Stem, four blocks of two convolutions, three shortcuts; batch normalisation is folded.
        **{"Conv": 1 + 8 + 3, "Relu": 1 + 8, "Add": 4, "MaxPool": 1},
        **{"GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "ReduceMean": 1},
    }


@pytest.mark.parametrize(("batch", "frames"), [(1, 8), (3, 8), (2, 16), (5, 4)])
def test_traced_graph_accepts_any_number_of_clips(
    traced: tuple[TSM, onnx.ModelProto], batch: int, frames: int
) -> None:
    network, model = traced
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    dimensions = changed.graph.input[0].type.tensor_type.shape.dim
    dimensions[0].dim_value, dimensions[1].dim_value = batch, frames
    changed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch * frames // 4
    onnx.checker.check_model(changed, full_check=True)
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    clips = noise(batch, (batch, frames, 3, 32, 40))
    (logits,) = session.run(None, {"input": clips.numpy()})
    np.testing.assert_allclose(logits, run(network, clips), rtol=0, atol=2e-5)
