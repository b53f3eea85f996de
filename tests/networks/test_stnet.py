"""StNet against the outputs and the layers of the original MindSpore network."""

from __future__ import annotations

import io
import json
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from stnet_truths import calm_gain, fill, filled, mindspore_name, reference_input
from torch import Tensor, nn
from torch.nn import functional

import networks.stnet
from networks.checkpoints.mindspore_weights import mindspore_key
from networks.same_pool import max_pool_same_upper
from networks.seeded import seeded_state_dict
from networks.stnet import StNet
from preprocess.sources.frame_pack import PackedFrames
from preprocess.tensors.samples import make_sample
from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe

# Of the largest logit; the original's own kernels differ among themselves by 1.3e-6.
TOLERANCE = 1e-5
# Layers with a different name here: ours, and whether the reference is its input.
RENAMED = {"maxpool": ("layer1", True), "layer1.0.down_sample_layer": ("layer1.0.downsample", False)}
TINY = {"num_classes": 5, "num_segments": 3, "frames_per_segment": 2, "pool_size": 2, "base_channels": 8}


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mindspore"


@pytest.fixture(scope="module")
def calm() -> StNet:
    return filled(num_classes=400)


def run(network: nn.Module, samples: np.ndarray | Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.as_tensor(samples)).numpy()


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def activations(
    network: StNet, names: list[str], samples: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the logits and the outputs of the layers with MindSpore's `names`."""
    caught: dict[str, np.ndarray] = {}

    def hook(name: str) -> Any:
        ours, take_input = RENAMED.get(name, (name, False))
        module = network.get_submodule(ours)
        if take_input:
            return module.register_forward_pre_hook(
                lambda _, inputs: caught.update({name: inputs[0].numpy()})
            )
        return module.register_forward_hook(lambda _, __, output: caught.update({name: output.numpy()}))

    hooks = [hook(name) for name in names]
    logits = run(network, samples)
    for handle in hooks:
        handle.remove()
    return logits, caught


def differing(caught: dict[str, np.ndarray], truth: Any) -> list[str]:
    """Return the layers, in order of computation, whose features differ from the reference."""
    names = []
    for name in map(str, truth["act_names"]):
        found, expected = (
            caught[name],
            {part: truth[f"act/{name}/{part}"] for part in ("shape", "idx", "values")},
        )
        _, _, low, high, _ = truth[f"act/{name}/stats"]
        allowed = TOLERANCE * max(abs(low), abs(high))
        same = found.shape == tuple(expected["shape"])
        same = same and bool(np.abs(found.ravel()[expected["idx"]] - expected["values"]).max() <= allowed)
        same = same and bool(np.abs(found.ravel()[:16] - truth[f"act/{name}/head16"]).max() <= allowed)
        moments = [found.mean(dtype=np.float64), found.std(dtype=np.float64), found.min(), found.max()]
        if not same or np.abs(np.array(moments) - truth[f"act/{name}/stats"][:4]).max() > allowed:
            names.append(name)
    return names


def test_parameters_equal_the_originals(truths: Path) -> None:
    expected = json.loads((truths / "stnet_keys.json").read_text())["parameters"]
    with torch.device("meta"):
        state = StNet(num_classes=400).state_dict()
    ours = {key: list(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert ours == {mindspore_key(entry["name"]): entry["shape"] for entry in expected}
    assert {mindspore_name(key) for key in ours} == {entry["name"] for entry in expected}


def test_reference_weights_are_rebuilt_exactly(truths: Path) -> None:
    checksums = json.loads((truths / "fill_checksums.json").read_text())
    small = {name: entry for name, entry in checksums.items() if np.prod(entry[0]) < 100_000}
    assert len(small) > 200
    assert [
        name for name, (shape, crc) in small.items() if zlib.crc32(fill(name, tuple(shape)).tobytes()) != crc
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["structured", "noise"])
def test_every_layer_has_the_originals_features(truths: Path, calm: StNet, kind: str) -> None:
    samples = reference_input(kind, layout="A")
    with np.load(truths / f"net_k400_calm_{kind}.npz") as truth:
        assert zlib.crc32(samples.tobytes()) == truth["input_crc32"]
        logits, caught = activations(calm, list(map(str, truth["act_names"])), samples)
        assert differing(caught, truth) == []
        for name in ("op_avg", "xception", "maxpool1"):
            assert relative(caught[name], truth[f"full/{name}"]) < TOLERANCE, name
        assert relative(logits, truth["logits"]) < TOLERANCE
        softmax = torch.from_numpy(logits).softmax(-1)
        np.testing.assert_allclose(softmax, truth["softmax"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_plain_weights_give_the_originals_large_logits(truths: Path, calm: StNet) -> None:
    state = {
        key: value for key, value in calm.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    same = {key: value for key, value in state.items() if calm_gain(mindspore_name(key)) == 1}
    network = filled(shared=same, variant="plain", num_classes=400)
    with np.load(truths / "net_k400_plain_noise.npz") as truth:
        assert relative(run(network, reference_input("noise", layout="A")), truth["logits"]) < TOLERANCE


@pytest.mark.slow
def test_depthwise_xception_has_the_originals_features(truths: Path, calm: StNet) -> None:
    network = filled(shared=calm.state_dict(), num_classes=400, depthwise=True)
    with np.load(truths / "net_k400_calm_structured_grouped.npz") as truth:
        names = list(map(str, truth["act_names"]))
        logits, caught = activations(network, names, reference_input("structured", layout="A"))
        assert differing(caught, truth) == []
        assert relative(logits, truth["logits"]) < TOLERANCE


@pytest.mark.slow
def test_layout_b_mixes_planes_as_the_original_does(truths: Path, calm: StNet) -> None:
    network = filled(shared=calm.state_dict(), num_classes=400, input_layout="B")
    samples = reference_input("structured", layout="B")
    with np.load(truths / "net_k400_calm_structured_layoutB.npz") as truth:
        assert zlib.crc32(samples.tobytes()) == truth["input_crc32"]
        assert relative(run(network, samples), truth["logits"]) < TOLERANCE
        with np.load(truths / "net_k400_calm_structured.npz") as layout_a:
            assert relative(layout_a["logits"], truth["logits"]) > 0.1


@pytest.mark.slow
def test_a_wrong_stem_pool_is_located(truths: Path, calm: StNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def torch_style(x: Tensor, *, kernel: int, stride: int) -> Tensor:
        return functional.max_pool2d(x, kernel, stride, padding=1)

    monkeypatch.setattr(networks.stnet, "max_pool_same_upper", torch_style)
    with np.load(truths / "net_k400_calm_structured.npz") as truth:
        names = list(map(str, truth["act_names"]))
        logits, caught = activations(calm, names, reference_input("structured", layout="A"))
        assert differing(caught, truth)[0] == "maxpool"
        assert relative(logits, truth["logits"]) > 100 * TOLERANCE


def test_packed_frames_of_a_real_video_give_the_originals_logits(
    truths: Path, shared: Path, calm: StNet
) -> None:
    pack = PackedFrames(shared / "data/stnet/pkl/demo-_340256_000000_000010.pkl")
    sample = make_sample(pack, load_recipe("stnet_k400").views)
    with np.load(truths / "net_k400_calm_demo.npz") as truth:
        assert zlib.crc32(sample.tensor.tobytes()) == truth["input_crc32"]
        logits = run(calm, sample.tensor[None])
        assert relative(logits, truth["logits"]) < TOLERANCE
        assert np.argsort(-logits[0])[:5].tolist() == truth["top5"][0].tolist()


def test_seeded_weights_give_logits_that_depend_on_the_clip() -> None:
    network = StNet(num_classes=400, base_channels=16).eval()
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=0))
    first, second = (run(network, reference_input(kind, layout="A")) for kind in ("structured", "noise"))
    assert 1 < second.std() < 6
    assert 1 < first.std() < 6
    assert (first - second).std() > 1


def tiny(**changes: Any) -> StNet:
    return filled(**{**TINY, **changes})


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_samples_are_independent() -> None:
    network, samples = tiny(), noise(0, (3, 3, 6, 64, 64))
    together = run(network, samples)
    assert together.shape == (3, 5)
    for index in range(3):
        np.testing.assert_allclose(together[index], run(network, samples[index : index + 1])[0], atol=1e-5)


def test_layout_b_is_a_raw_reshape_of_its_planes() -> None:
    samples = noise(1, (2, 3, 6, 64, 64))
    np.testing.assert_array_equal(
        run(tiny(input_layout="B"), samples), run(tiny(), samples.reshape(2, 3, 6, 64, 64))
    )
    wider = {"frames_per_segment": 4}
    samples = noise(2, (2, 3, 12, 64, 64))
    np.testing.assert_array_equal(
        run(tiny(input_layout="B", **wider), samples), run(tiny(**wider), samples.reshape(2, 3, 12, 64, 64))
    )


def test_112_pixels_end_in_maps_of_four() -> None:
    assert run(tiny(pool_size=4), noise(3, (1, 3, 6, 112, 112))).shape == (1, 5)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 3, 5, 64, 64), "start with"),
        ((1, 4, 6, 64, 64), "start with"),
        ((1, 3, 6, 96, 96), "last feature map"),
    ],
)
def test_other_shapes_are_rejected(shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_classes", 0),
        ("num_segments", 0),
        ("frames_per_segment", 0),
        ("pool_size", 0),
        ("input_layout", "C"),
    ],
)
def test_arguments_out_of_range_are_rejected(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        StNet(**{**TINY, name: value})


def test_a_step_of_training_reaches_every_parameter() -> None:
    network = StNet(**TINY)
    functional.cross_entropy(network(noise(0, (2, 3, 6, 64, 64))), torch.arange(2)).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@pytest.mark.parametrize("size", [(6, 6), (7, 6), (6, 9), (7, 11), (2, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1)])
def test_pooling_is_onnxs_same_upper(size: tuple[int, int], kernel: int, stride: int) -> None:
    x = noise(sum(size), (1, 2, *size))
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", kernel_shape=[kernel] * 2, strides=[stride] * 2
    )
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x.numpy()})
    np.testing.assert_array_equal(max_pool_same_upper(x, kernel=kernel, stride=stride), expected)


def test_pooling_has_the_gradient_of_its_maxima() -> None:
    x = torch.randperm(2 * 6 * 7).double().reshape(1, 2, 6, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: max_pool_same_upper(x, kernel=3, stride=2), (x,))


def traced(network: StNet, *, opset: int) -> onnx.ModelProto:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (noise(0, (1, 3, 6, 64, 64)),),
            stream,  # type: ignore[arg-type]
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
        )
    return onnx.load_from_string(stream.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(("opset", "depthwise"), [(11, False), (13, True)])
def test_traced_graph_pads_explicitly_and_accepts_any_batch(opset: int, depthwise: bool) -> None:
    network = tiny(depthwise=depthwise)
    model = traced(network, opset=opset)
    counts = Counter(node.op_type for node in model.graph.node)
    counts.pop("Constant")
    assert counts == {
        # Stem, sixteen blocks of three, four shortcuts, two temporal blocks, five in the head.
        **{"Conv": 1 + 48 + 4 + 2 + 5, "Relu": 1 + 48 + 2 + 2, "Add": 16 + 2 + 1},
        # Those after a ReLU or a sum cannot be folded into a convolution.
        **{"BatchNormalization": 4, "MaxPool": 2, "AveragePool": 1, "Flatten": 1, "Gemm": 1},
        **{"Reshape": 1 + 2 * 2 + 1, "Transpose": 2 * 2 + 1},
    }
    attributes = {
        (node.op_type, attribute.name): list(attribute.ints)
        for node in model.graph.node
        for attribute in node.attribute
    }
    assert not any(name == "auto_pad" for _, name in attributes)
    stem = next(node for node in model.graph.node if node.op_type == "MaxPool")
    assert {attribute.name: list(attribute.ints) for attribute in stem.attribute}["pads"] == [0, 0, 1, 1]
    for batch in (1, 3):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        samples = noise(batch, (batch, 3, 6, 64, 64))
        (logits,) = session.run(None, {"input": samples.numpy()})
        assert relative(logits, run(network, samples)) < TOLERANCE
