"""PP-TSM against the outputs, layers and keys of the original PaddleVideo network."""

from __future__ import annotations

import functools
import io
import json
import os
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
from paddle_fill import fill, recorded_clips
from torch import Tensor, nn

import networks.pptsm
from networks.checkpoints.pptsm_weights import from_paddle, paddle_key
from networks.pptsm import PPTSM, Backbone
from networks.seeded import seeded_state_dict
from networks.shift import paddle_temporal_shift
from vidom.errors import UsageError

# Of the largest logit, and of the largest activation in a layer. The original's own float32 and float64 differ
# by 1.3e-6.
TOLERANCE = 5e-6


@functools.lru_cache(maxsize=2)
def original(*, depth: int, classes: int, segments: int, damped: bool) -> tuple[PPTSM, int]:
    network = PPTSM(depth=depth, num_classes=classes, num_segments=segments, backbone_segments=segments)
    return network, fill(network, damped=damped)


@pytest.fixture(scope="module", autouse=True)
def _networks_are_released() -> Iterator[None]:
    yield
    original.cache_clear()


def run(network: nn.Module, clips: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(clips)).numpy()


class Recorded:
    """A recorded forward pass with its network and input."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as archive:
            self.truth = {name: archive[name] for name in archive.files}
        info = json.loads(str(self.truth["info_json"]))
        self.network, crc = original(
            depth=info["depth"],
            classes=info["num_classes"],
            segments=info["num_seg"],
            damped=info["fill_mode"] == "damped",
        )
        assert f"{crc:08x}" == info["weights_crc32"]
        self.clips = recorded_clips(tuple(info["input_shape"]), kind=info["input_kind"])
        assert f"{zlib.crc32(self.clips.tobytes()):08x}" == info["input_crc32"]

    @property
    def logits(self) -> np.ndarray:
        return self.truth["logits"]


def agree(found: np.ndarray, expected: np.ndarray, *, scale: float, name: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def layers_with_hooks(recorded: Recorded) -> tuple[dict[str, np.ndarray], list[Any]]:
    outputs: dict[str, np.ndarray] = {}
    hooks = [
        recorded.network.get_submodule(
            name if name.startswith("head.") else f"backbone.{name}"
        ).register_forward_hook(
            # A copy, because the next layer may change it in place.
            lambda module, inputs, output, name=name: outputs.update({name: output.numpy().copy()})
        )
        for name in recorded.truth["act_names"]
    ]
    return outputs, hooks


# A representative of each kind; the rest repeat them with different numbers.
REPRESENTATIVES = [
    *("r50_8f_400_damped_video", "r50_8f_400_damped_oddsize_200x216"),
    pytest.param("r50_8f_66_damped_batch2_video", marks=pytest.mark.slow),
    pytest.param("r50_16f_400_damped_video", marks=pytest.mark.slow),
    pytest.param("r101_8f_400_plain", marks=pytest.mark.slow),
]
REST = ["r50_8f_400_plain", "r50_8f_400_damped", "r50_8f_66_plain_batch2", "r50_16f_400_plain"]
WITH_ALL = pytest.mark.skipif(
    "VIDOM_ALL_TRUTHS" not in os.environ, reason="slow; runs with VIDOM_ALL_TRUTHS=1"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REPRESENTATIVES, *(pytest.param(name, marks=WITH_ALL) for name in REST)])
def test_layers_and_logits_equal_the_originals(fixtures: Path, name: str) -> None:
    recorded = Recorded(fixtures / "paddle" / f"forward_{name}.npz")
    outputs, hooks = layers_with_hooks(recorded)
    logits = run(recorded.network, recorded.clips)
    for hook in hooks:
        hook.remove()
    truth = recorded.truth
    for index, layer in enumerate(truth["act_names"]):
        found, largest = outputs[layer], truth["act_absmax"][index]
        assert found.shape == tuple(truth["act_shape"][index]), layer
        values = found.reshape(-1)[truth["act_index"][index]]
        agree(values, truth["act_values"][index], scale=largest, name=layer)
        statistics = np.array([found.mean(dtype=np.float64), max(found.max(), -found.min())])
        agree(statistics, np.array([truth["act_mean"][index], largest]), scale=largest, name=layer)
    agree(logits, recorded.logits, scale=np.abs(recorded.logits).max(), name="logits")


def reversed_shift(x: Tensor, *, num_segments: int) -> Tensor:
    return paddle_temporal_shift(x.flip(0), num_segments=num_segments).flip(0)


@pytest.mark.slow
def test_a_reversed_shift_is_detected_and_differs_as_in_the_original(
    fixtures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(fixtures / "paddle" / "forward_r50_8f_400_damped_video.npz")
    monkeypatch.setattr(networks.pptsm, "paddle_temporal_shift", reversed_shift)
    logits = run(recorded.network, recorded.clips)
    scale = np.abs(recorded.logits).max()
    assert np.abs(logits - recorded.logits).max() > 0.01 * scale
    agree(logits, recorded.truth["logits_if_shift_reversed"], scale=scale, name="reversed")


@pytest.mark.parametrize(("segments", "channels"), [(8, 16), (16, 64), (4, 16)])
def test_shift_moves_the_channels_that_paddle_moves(fixtures: Path, segments: int, channels: int) -> None:
    with np.load(fixtures / "paddle" / "semantics.npz") as truth:
        x = torch.from_numpy(truth[f"x_seg{segments}_c{channels}"])
        shifted = paddle_temporal_shift(x, num_segments=segments)
        np.testing.assert_array_equal(shifted, truth[f"y_seg{segments}_c{channels}"])


@pytest.mark.parametrize(
    ("segments", "channels"),
    [(8, 16), (8, 64), (16, 64), (4, 16), (10, 64), (12, 64), (32, 64), (3, 64), (6, 64), (25, 64)],
)
def test_parts_of_the_shift_are_as_wide_as_paddles(fixtures: Path, segments: int, channels: int) -> None:
    truth = json.loads((fixtures / "paddle" / "semantics.json").read_text())[
        f"shift seg{segments} C{channels}"
    ]
    times = torch.arange(1.0, segments + 1).reshape(-1, 1, 1, 1).expand(-1, channels, 1, 1)
    middle = (paddle_temporal_shift(times, num_segments=segments) - times)[1].flatten().tolist()
    assert middle == [-1.0] * truth["from_prev"] + [1.0] * truth["from_next"] + [0.0] * truth["kept"]


def test_shift_has_the_gradient_of_a_linear_map() -> None:
    x = torch.randn(6, 8, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: paddle_temporal_shift(x, num_segments=3), (x,))


@pytest.mark.parametrize(("depth", "classes"), [(50, 400), (101, 400), (50, 66), (101, 66)])
def test_state_dict_equals_paddles_except_for_the_classifiers_layout(
    fixtures: Path, depth: int, classes: int
) -> None:
    document = json.loads((fixtures / "paddle" / f"pptsm_{depth}_keys.json").read_text())
    expected = {entry["name"]: entry["shape"] for entry in document["params"]}
    if classes == 66:
        expected |= {
            entry["name"]: entry["shape"] for entry in document["num_classes_66"]["differing_params"]
        }
    with torch.device("meta"):
        state = PPTSM(depth=depth, num_classes=classes).state_dict()
    ours = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert [paddle_key(key) for key in ours] == list(expected)
    theirs = from_paddle({key: torch.empty(shape, device="meta") for key, shape in expected.items()})
    assert {key: value.shape for key, value in theirs.items()} == {
        key: value.shape for key, value in ours.items()
    }


def test_classifier_is_transposed() -> None:
    theirs = torch.arange(6.0).reshape(2, 3)
    found = from_paddle({"head.fc.weight": theirs, "backbone.bb_0_0.conv0._batch_norm._mean": theirs[0]})
    assert torch.equal(found["head.fc.weight"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))
    assert torch.equal(found["backbone.bb_0_0.conv0._batch_norm.running_mean"], theirs[0])


@pytest.fixture
def small() -> PPTSM:
    return seeded(PPTSM(depth=50, num_classes=5, base_channels=16))


def seeded(network: PPTSM) -> PPTSM:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=0))
    return network.eval()


def test_shortcuts_average_the_existing_pixels(fixtures: Path) -> None:
    block = Backbone(blocks=(1, 1), base_channels=2, num_segments=3).get_submodule("bb_1_0").eval()
    seen: list[Tensor] = []
    block.get_submodule("short").register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with np.load(fixtures / "paddle" / "semantics.npz") as truth:
        ramp = torch.from_numpy(truth["avgpool_x"]).expand(3, 8, -1, -1)
        with torch.inference_mode():
            block(ramp)
        np.testing.assert_array_equal(seen[0][:1, :1], truth["avgpool_y"])


def test_clips_of_a_sample_are_separate_rows(small: PPTSM) -> None:
    clips = np.random.default_rng(2).standard_normal((2, 24, 3, 32, 32)).astype(np.float32)
    together = run(small, clips)
    apart = np.concatenate([run(small, clips.reshape(6, 8, 3, 32, 32)[[clip]]) for clip in range(6)])
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_seeded_logits_have_a_trained_networks_magnitude_and_depend_on_the_order_of_frames() -> None:
    network = seeded(PPTSM(depth=50, num_classes=400))
    clip = recorded_clips((1, 8, 3, 64, 64), kind="video")
    logits = run(network, clip)
    assert 1 < np.abs(logits).max() < 30
    assert np.abs(logits - run(network, clip[:, ::-1].copy())).max() > 0.01 * np.abs(logits).max()


def test_a_step_of_training_reaches_every_parameter() -> None:
    network = PPTSM(depth=50, num_classes=4, base_channels=4)
    clips = torch.from_numpy(recorded_clips((4, 8, 3, 32, 32), kind="video"))
    nn.functional.cross_entropy(network(clips), torch.arange(4)).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"depth": 18}, "depth"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_segments": 2, "backbone_segments": 2}, "num_segments"),
        ({"base_channels": 7}, "base_channels"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        PPTSM(**{"depth": 50, "num_classes": 3, **arguments})


@pytest.mark.parametrize(("head", "backbone"), [(16, 8), (8, 16)])
def test_a_head_and_a_backbone_of_different_clips_are_rejected(head: int, backbone: int) -> None:
    with pytest.raises(UsageError, match=f"num_segments {head}.*found {backbone}"):
        PPTSM(depth=50, num_classes=3, num_segments=head, backbone_segments=backbone)


def test_incomplete_clips_are_rejected(small: PPTSM) -> None:
    # Paddle treats two samples of 12 frames as three clips of 8, one of them across both samples.
    with pytest.raises(ValueError, match="12 frames"):
        run(small, np.zeros((2, 12, 3, 32, 32), np.float32))


@pytest.fixture(scope="module", params=[11, 13])
def traced(request: pytest.FixtureRequest) -> tuple[PPTSM, onnx.ModelProto]:
    network = seeded(PPTSM(depth=50, num_classes=5, base_channels=8))
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            # 72 pixels become 9 and 5 before the second and the third average pool: windows at the edge.
            (torch.zeros(1, 8, 3, 72, 64),),
            stream,  # type: ignore[arg-type]
            opset_version=request.param,
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
        )
    return network, onnx.load_from_string(stream.getvalue())


@pytest.mark.slow
def test_traced_graph_has_only_the_necessary_nodes(traced: tuple[PPTSM, onnx.ModelProto]) -> None:
    counts = Counter(node.op_type for node in traced[1].graph.node)
    counts.pop("Constant")
    assert counts == {
        # Sixteen shifts, the frames of all samples in one dimension, and segments apart in the head.
        **{"Reshape": 16 * 2 + 2, "Slice": 16 * 5, "Pad": 16 * 2, "Concat": 16},
        # Three in the stem, three in each block, four shortcuts; batch normalisation is folded.
        **{"Conv": 3 + 48 + 4, "LeakyRelu": 3 + 48, "Add": 16, "MaxPool": 1, "AveragePool": 3},
        **{"GlobalAveragePool": 1, "Flatten": 1, "ReduceMean": 1, "Gemm": 1},
    }
    slopes = {node.attribute[0].f for node in traced[1].graph.node if node.op_type == "LeakyRelu"}
    assert slopes == {np.float32(0.01)}


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "frames"), [(1, 8), (3, 8), (2, 16)])
def test_traced_graph_accepts_any_number_of_clips(
    traced: tuple[PPTSM, onnx.ModelProto], batch: int, frames: int
) -> None:
    network, model = traced
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    dimensions = changed.graph.input[0].type.tensor_type.shape.dim
    dimensions[0].dim_value, dimensions[1].dim_value = batch, frames
    changed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch * frames // 8
    onnx.checker.check_model(changed, full_check=True)
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    clips = recorded_clips((batch, frames, 3, 72, 64), kind="video")
    expected = run(network, clips)
    (logits,) = session.run(None, {"input": clips})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
