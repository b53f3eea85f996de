"""I3D against the outputs, shapes and layers of the original mmaction2 network.

`i3d_k400_out.npz` is the part of the reference archive that is needed here: of every input the entries shape,
input_crc32, dummy_logits, test_prob and test_score, and all entries under feat/, each as it was, written by
numpy.savez_compressed.
"""

from __future__ import annotations

import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from networks.checkpoints.checkpoint import load_state, save_mmaction2
from networks.checkpoints.torch_weights import read_torch
from networks.i3d import I3D
from networks.seeded import seeded_state_dict
from networks.tsm import TSM
from preprocess.sources.frames import RawFrames
from preprocess.tensors.clips import clip_views, read_clips
from vidom.errors import BadDataError, UsageError
from vidom.formats.views import ViewPlan

CLIP_SEEDS = {
    "noise_1x1x32x224": 0,
    "noise_1x1x32x64": 1,
    "noise_1x30x32x32": 2,
    "noise_2x3x16x48": 3,
    "noise_1x2x9x50x42": 4,
}
STAGES = ("conv1", "maxpool", "layer1", "pool2", "layer2", "layer3", "layer4")
LOGITS_TOLERANCE = 6e-4
PROBABILITY_TOLERANCE = 5e-5
# A mistake must change the logits by far more than the tolerance; those below change them by 2 and more.
CLEARLY = 0.5
SMALL: dict[str, Any] = {"depth": 26, "num_classes": 5, "base_channels": 8}
THIRTY_VIEWS = ViewPlan(
    num_segments=10,
    frame_interval=2,
    short_side=256,
    crop="three",
    crop_size=256,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
).model_copy(update={"clip_len": 32})


def seeded(network: I3D, *, seed: int = 0) -> I3D:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=seed))
    return network.eval()


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def run(network: nn.Module, views: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(views).numpy()


def average(logits: np.ndarray, samples: int) -> np.ndarray:
    """Return the mean of the views' probabilities of each sample."""
    views = torch.from_numpy(logits).reshape(samples, -1, logits.shape[-1])
    return views.softmax(dim=-1).mean(dim=1).numpy()


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mmaction2"


@pytest.fixture(scope="module")
def outputs(truths: Path) -> dict[str, np.ndarray]:
    with np.load(truths / "i3d_k400_out.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def k400() -> I3D:
    return seeded(I3D(num_classes=400))


@pytest.fixture
def small() -> I3D:
    return seeded(I3D(**SMALL))


@pytest.mark.slow
def test_state_dict_is_mmaction2s_and_the_seeded_tensors_are_the_fixtures(truths: Path, k400: I3D) -> None:
    expected = json.loads((truths / "i3d_k400_keys.json").read_text())["entries"]
    found = [(key, list(value.shape), str(value.dtype)) for key, value in k400.state_dict().items()]
    assert found == [(entry["key"], entry["shape"], f"torch.{entry['dtype']}") for entry in expected]
    # k400 has the tensors of seeded_state_dict.
    crcs = {key: zlib.crc32(value.numpy().tobytes()) for key, value in k400.state_dict().items()}
    assert crcs == {entry["key"]: entry["crc32"] for entry in expected}


def test_layers_have_the_settings_of_the_original(truths: Path, k400: I3D) -> None:
    for layer in json.loads((truths / "i3d_k400_layers.json").read_text()):
        module: Any = k400.get_submodule(layer["name"])
        match layer["type"]:
            case "Conv3d":
                sizes = [
                    list(size)
                    for size in (module.kernel_size, module.stride, module.padding, module.dilation)
                ]
                found = (module.in_channels, module.out_channels, *sizes, module.bias is not None)
                expected = tuple(layer[name] for name in ("i", "o", "k", "s", "p", "d", "bias"))
            case "BatchNorm3d":
                found = (module.num_features, module.eps, module.momentum)
                expected = (layer["c"], layer["eps"], layer["momentum"])
            case "MaxPool3d":
                # The original leaves the padding of pool2 at the scalar 0.
                found = (module.kernel_size, module.stride, tuple(np.broadcast_to(module.padding, 3)))
                found += (module.ceil_mode,)
                expected = (*map(tuple, (layer["k"], layer["s"], np.broadcast_to(layer["p"], 3))),)
                expected += (layer["ceil"],)
            case _:
                found, expected = repr(module), layer["repr"]
        assert found == expected, layer["name"]


@dataclass(frozen=True)
class Recorded:
    """The results of one input of the reference archive."""

    logits: np.ndarray
    features: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def record(outputs: dict[str, np.ndarray], k400: I3D) -> Callable[[str], Recorded]:
    """Run the input of a tag once for all tests."""

    @cache
    def recorded(tag: str) -> Recorded:
        features: dict[str, np.ndarray] = {}
        hooks = [
            k400.backbone.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: features.update({name: output.numpy().copy()})
            )
            for name in STAGES
        ]
        views = noise(CLIP_SEEDS[tag], tuple(outputs[f"{tag}/shape"]))
        assert zlib.crc32(views.numpy().tobytes()) == outputs[f"{tag}/input_crc32"]
        logits = run(k400, views)
        for hook in hooks:
            hook.remove()
        return Recorded(logits, features)

    return recorded


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["noise_1x1x32x64", "noise_1x1x32x224"])
def test_every_stage_has_the_originals_features(
    outputs: dict[str, np.ndarray], record: Callable[[str], Recorded], tag: str
) -> None:
    for name, found in record(tag).features.items():
        truth = {field: outputs[f"{tag}/feat/{name}/{field}"] for field in ("shape", "slice", "stats")}
        assert found.shape == tuple(truth["shape"]), name
        # The archive has eight channels, the first two frames and a corner.
        picked = found[:, :: found.shape[1] // 8, :2, :3, :3]
        np.testing.assert_allclose(picked, truth["slice"], rtol=0, atol=LOGITS_TOLERANCE, err_msg=name)
        statistics = [found.mean(dtype=np.float64), found.std(dtype=np.float64), found.max()]
        np.testing.assert_allclose(statistics, truth["stats"], rtol=1e-4, atol=0, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("tag", CLIP_SEEDS)
def test_logits_and_averages_equal_the_originals(
    outputs: dict[str, np.ndarray], record: Callable[[str], Recorded], tag: str
) -> None:
    logits = record(tag).logits
    samples = len(outputs[f"{tag}/test_prob"])
    np.testing.assert_allclose(logits, outputs[f"{tag}/dummy_logits"], rtol=0, atol=LOGITS_TOLERANCE)
    mean = logits.reshape(samples, -1, 400).mean(axis=1)
    np.testing.assert_allclose(mean, outputs[f"{tag}/test_score"], rtol=0, atol=LOGITS_TOLERANCE)
    np.testing.assert_allclose(
        average(logits, samples), outputs[f"{tag}/test_prob"], rtol=0, atol=PROBABILITY_TOLERANCE
    )


@pytest.mark.parametrize("mistake", ["no pool2", "time reversed", "BGR", "stem stride 1", "pool1 stride 1"])
def test_a_mistake_is_detected(
    outputs: dict[str, np.ndarray], k400: I3D, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    tag = "noise_2x3x16x48"
    views = noise(CLIP_SEEDS[tag], tuple(outputs[f"{tag}/shape"]))[:1, :1]
    backbone = k400.backbone
    match mistake:
        case "no pool2":
            monkeypatch.setattr(backbone.pool2, "forward", lambda x: x)
        case "time reversed":
            views = views.flip(3)
        case "BGR":
            views = views.flip(2)
        case "stem stride 1":
            monkeypatch.setattr(backbone.conv1.conv, "stride", (1, 2, 2))
        case "pool1 stride 1":
            monkeypatch.setattr(backbone.maxpool, "stride", (1, 2, 2))
    assert np.abs(run(k400, views) - outputs[f"{tag}/dummy_logits"][:1]).max() > CLEARLY


def test_views_are_independent(small: I3D) -> None:
    views = noise(3, (2, 3, 3, 16, 32, 32))
    alone = np.concatenate([run(small, view[None, None]) for sample in views for view in sample])
    np.testing.assert_allclose(run(small, views), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [8, 9, 31, 32])
def test_the_stem_may_skip_the_frames_that_its_pool_drops(small: I3D, frames: int) -> None:
    shortcut = I3D(**SMALL, conv1_stride_t=4, pool1_stride_t=1).eval()
    load_state(shortcut, small.state_dict(), source="the usual form")
    views = noise(frames, (1, 2, 3, frames, 32, 40))
    np.testing.assert_allclose(run(shortcut, views), run(small, views), rtol=0, atol=1e-5)


def test_the_heavy_configuration_inflates_every_block() -> None:
    heavy = seeded(I3D(**SMALL, conv1_stride_t=1, pool1_stride_t=1, inflate_all=True))
    kernels = {tuple(heavy.get_submodule(f"{name}.conv1.conv").kernel_size) for name in block_names(heavy)}
    assert kernels == {(3, 1, 1)}
    with torch.inference_mode():
        # pool2 reduces the eight frames to four.
        assert heavy.backbone(noise(0, (1, 3, 8, 32, 64))).shape == (1, 8 * 8 * 4, 4, 1, 2)


def block_names(network: I3D) -> list[str]:
    stages = [f"backbone.layer{stage}" for stage in (1, 2, 3, 4)]
    return [f"{stage}.{index}" for stage in stages for index in range(len(network.get_submodule(stage)))]


def test_a_saved_checkpoint_is_read_completely(tmp_path: Path, small: I3D) -> None:
    save_mmaction2(tmp_path / "i3d.pth", small, {"epoch": 100})
    read = read_torch(tmp_path / "i3d.pth")
    other = I3D(**SMALL).eval()
    load_state(other, read.state_dict, source="i3d.pth")
    views = noise(0, (1, 1, 3, 8, 32, 32))
    np.testing.assert_array_equal(run(other, views), run(small, views))


def test_weights_of_a_different_network_are_rejected(small: I3D) -> None:
    heavy = I3D(**SMALL, inflate_all=True)
    with pytest.raises(BadDataError, match=r"a different shape: 3[^0-9]"):
        load_state(heavy, small.state_dict(), source="the usual form")
    with pytest.raises(BadDataError, match="backbone.conv1.conv.weight"):
        load_state(small, TSM(depth=10, num_classes=5, base_channels=8).state_dict(), source="TSM")


def test_a_step_of_training_reaches_every_parameter() -> None:
    network = I3D(**SMALL)
    nn.functional.cross_entropy(network(noise(0, (4, 1, 3, 8, 32, 32))), torch.arange(4)).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"depth": 18}, "depth"),
        ({"num_classes": 0}, "num_classes"),
        ({"conv1_stride_t": 0}, "conv1_stride_t"),
        ({"pool1_stride_t": 0}, "pool1_stride_t"),
        ({"base_channels": 0}, "base_channels"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        I3D(**{**SMALL, **arguments})


@pytest.fixture(scope="module", params=[11, 13])
def traced(request: pytest.FixtureRequest) -> Iterator[tuple[I3D, onnx.ModelProto]]:
    network = seeded(I3D(**SMALL))
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (noise(0, (1, 1, 3, 8, 32, 40)),),
            stream,  # type: ignore[arg-type]
            opset_version=request.param,
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
        )
    yield network, onnx.load_from_string(stream.getvalue())


@pytest.mark.slow
def test_traced_graph_has_only_the_layers(traced: tuple[I3D, onnx.ModelProto]) -> None:
    counts = Counter(node.op_type for node in traced[1].graph.node)
    counts.pop("Constant")
    assert counts == {
        # Stem, eight blocks of three convolutions, four shortcuts; batch normalisation is folded.
        **{"Conv": 1 + 24 + 4, "Relu": 1 + 24, "Add": 8, "MaxPool": 2},
        **{"Reshape": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    }


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "views"), [(1, 1), (3, 1), (2, 5)])
def test_traced_graph_accepts_any_number_of_views(
    traced: tuple[I3D, onnx.ModelProto], batch: int, views: int
) -> None:
    network, model = traced
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    dimensions = changed.graph.input[0].type.tensor_type.shape.dim
    dimensions[0].dim_value, dimensions[1].dim_value = batch, views
    changed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch * views
    onnx.checker.check_model(changed, full_check=True)
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    clips = noise(batch, (batch, views, 3, 8, 32, 40))
    (logits,) = session.run(None, {"input": clips.numpy()})
    np.testing.assert_allclose(logits, run(network, clips), rtol=0, atol=2e-5)


def check_views_from_frames(
    network: I3D, source: RawFrames, archive: Path, name: str, chosen: tuple[int, ...]
) -> None:
    with np.load(archive) as truth:
        logits = truth[f"i3d_k400|{name}|view_logits"]
        expected = truth[f"i3d_k400|{name}|prob_avg"]
    for number, view in enumerate(clip_views(read_clips(source, THIRTY_VIEWS), THIRTY_VIEWS)):
        if number in chosen:
            found = run(network, torch.from_numpy(view)[None, None])
            np.testing.assert_allclose(found[0], logits[number], rtol=0, atol=LOGITS_TOLERANCE)
            logits[number] = found
    # All thirty would take a minute; the other rows are the original's.
    np.testing.assert_allclose(average(logits, 1), expected, rtol=0, atol=PROBABILITY_TOLERANCE)


@pytest.mark.slow
def test_frames_to_probabilities(fixtures: Path, k400: I3D) -> None:
    source = RawFrames(fixtures / "synth" / "i3d_340x256", 70)
    archive = fixtures / "mmaction2" / "synth_only" / "e2e.npz"
    check_views_from_frames(k400, source, archive, "synth/i3d_340x256:70", (8, 21))


@pytest.mark.slow
def test_real_frames_to_probabilities(shared: Path, k400: I3D) -> None:
    source = RawFrames(shared / "data" / "rawframes" / "demo", 280)
    archive = shared / "fixtures" / "mmaction2" / "e2e.npz"
    check_views_from_frames(k400, source, archive, "rawframes/demo:280", (19,))
