"""Pads in MindSpore's order are put in ONNX's, and nothing else is touched."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from export.repair_mindspore_onnx import (
    RepairedConv,
    RepairOptions,
    main,
    repair_mindspore_onnx,
    repaired_pads,
)
from networks.seeded import seeded_state_dict
from networks.stnet import StNet
from vidom.errors import BadDataError, UsageError

# What a run of ONNX Runtime and one of torch differ by at most, of the largest logit.
TOLERANCE = 1e-4


def stnet(*, depthwise: bool) -> StNet:
    network = StNet(
        num_classes=5, num_segments=3, frames_per_segment=2, pool_size=2, base_channels=8, depthwise=depthwise
    )
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=3))
    return network.eval()


def export(network: StNet, path: Path) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 6, 64, 64),),
            path,
            opset_version=11,
            input_names=["x"],
            output_names=["logits"],
            dynamo=False,
        )
    return onnx.load(path)


def as_mindspore_writes(model: onnx.ModelProto) -> list[str]:
    """Every convolution's pads go axis by axis; the names of those that this makes wrong are returned."""
    wrong = []
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Conv" and attribute.name == "pads":
                pads = list(attribute.ints)
                axes = len(pads) // 2
                paired = [pad for axis in range(axes) for pad in (pads[axis], pads[axis + axes])]
                if paired != pads:
                    wrong.append(node.name)
                del attribute.ints[:]
                attribute.ints.extend(paired)
    return wrong


def run(path: Path, samples: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"x": samples})[0])


@pytest.mark.slow
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_file_with_mindspores_pads_gives_the_networks_logits_again(tmp_path: Path, depthwise: bool) -> None:
    network = stnet(depthwise=depthwise)
    model = export(network, tmp_path / "right.onnx")
    wrong = as_mindspore_writes(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(ort_errors.Fail):
        onnxruntime.InferenceSession(tmp_path / "wrong.onnx")
    repaired = repair_mindspore_onnx(
        RepairOptions(model=tmp_path / "wrong.onnx", output=tmp_path / "repaired.onnx")
    )
    assert wrong == [
        "/temp1/conv1/Conv",
        "/temp2/conv1/Conv",
        "/xception/att_conv/Conv",
        "/xception/att_1/Conv",
    ]
    assert [conv.node for conv in repaired] == wrong
    assert repaired[0].before == (1, 1, 0, 0, 0, 0)
    assert repaired[0].after == (1, 0, 0, 1, 0, 0)
    assert repaired[2] == RepairedConv("/xception/att_conv/Conv", (1, 1, 0, 0), (1, 0, 1, 0))
    samples = np.random.default_rng(0).standard_normal((2, 3, 6, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(samples)).numpy()
    found = run(tmp_path / "repaired.onnx", samples)
    assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()
    np.testing.assert_array_equal(found, run(tmp_path / "right.onnx", samples))


@pytest.mark.slow
def test_repairing_twice_or_repairing_a_right_file_changes_no_byte(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    model = export(stnet(depthwise=False), right)
    assert repair_mindspore_onnx(RepairOptions(model=right, output=tmp_path / "copy.onnx")) == ()
    assert (tmp_path / "copy.onnx").read_bytes() == right.read_bytes()
    as_mindspore_writes(model)
    onnx.save(model, wrong)
    repair_mindspore_onnx(RepairOptions(model=wrong, output=tmp_path / "once.onnx"))
    assert (
        repair_mindspore_onnx(RepairOptions(model=tmp_path / "once.onnx", output=tmp_path / "twice.onnx"))
        == ()
    )
    assert (tmp_path / "twice.onnx").read_bytes() == (tmp_path / "once.onnx").read_bytes()


@pytest.mark.parametrize(
    ("pads", "kernel", "expected"),
    [
        # MindSpore's, of the original's exports and of other axes.
        ((1, 1, 0, 0, 0, 0), (3, 1, 1), (1, 0, 0, 1, 0, 0)),
        ((1, 1, 0, 0), (3, 1), (1, 0, 1, 0)),
        ((0, 0, 2, 2), (1, 5), (0, 2, 0, 2)),
        ((0, 0, 1, 1, 1, 1), (1, 3, 3), (0, 1, 1, 0, 1, 1)),
        ((1, 1, 1, 1, 0, 0), (3, 3, 1), (1, 1, 0, 1, 1, 0)),
        # ONNX's own order of the same.
        ((1, 0, 0, 1, 0, 0), (3, 1, 1), None),
        ((1, 0, 1, 0), (3, 1), None),
        ((0, 2, 0, 2), (1, 5), None),
        ((0, 1, 1, 0, 1, 1), (1, 3, 3), None),
        # The same in both orders.
        ((0, 0, 0, 0), (1, 1), None),
        ((1, 1, 1, 1), (3, 3), None),
        ((1, 1, 1, 1), (1, 1), None),
        ((3,) * 6, (7, 7, 7), None),
        # Of neither order for certain: asymmetric pads of square kernels, and pads of an axis that is 1 wide.
        ((1, 1, 0, 0), (2, 2), None),
        ((0, 1, 0, 1), (3, 3), None),
        ((1, 0, 1, 0), (1, 3), None),
        ((2, 1, 0, 0), (3, 1), None),
        # Not even of the kernel's rank.
        ((1, 1), (3, 1), None),
        ((1, 1, 0, 0), (), None),
    ],
)
def test_pads_are_reordered_only_if_certainly_wrong(
    pads: tuple[int, ...], kernel: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    assert repaired_pads(pads, kernel) == expected
    if expected is not None:
        assert repaired_pads(expected, kernel) is None


def conv_model(pads: list[int], *, out: list[int], name_kernel: bool) -> onnx.ModelProto:
    """One convolution with a 3x1 kernel over [1, 2, 4, 4], whose output is declared as `out`."""
    weight = numpy_helper.from_array(np.ones((2, 2, 3, 1), np.float32), "w")
    kernel = {"kernel_shape": [3, 1]} if name_kernel else {}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=pads, **kernel)],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, out)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


@pytest.mark.parametrize("name_kernel", [False, True])
def test_the_kernel_is_known_from_attribute_or_weights(tmp_path: Path, name_kernel: bool) -> None:
    onnx.save(conv_model([1, 1, 0, 0], out=[1, 2, 4, 4], name_kernel=name_kernel), tmp_path / "a.onnx")
    (conv,) = repair_mindspore_onnx(RepairOptions(model=tmp_path / "a.onnx", output=tmp_path / "b.onnx"))
    assert conv.node == "y"
    assert run(tmp_path / "b.onnx", np.ones((1, 2, 4, 4), np.float32)).shape == (1, 2, 4, 4)


def test_a_file_with_other_contradictions_is_rejected(tmp_path: Path) -> None:
    onnx.save(conv_model([1, 1, 0, 0], out=[1, 2, 9, 9], name_kernel=True), tmp_path / "a.onnx")
    with pytest.raises(BadDataError, match="not because of MindSpore's order"):
        repair_mindspore_onnx(RepairOptions(model=tmp_path / "a.onnx", output=tmp_path / "b.onnx"))
    assert not (tmp_path / "b.onnx").exists()


def test_the_original_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both name"):
        repair_mindspore_onnx(RepairOptions(model=tmp_path / "a.onnx", output=tmp_path / "a.onnx"))


def test_the_command_logs_what_it_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(conv_model([1, 1, 0, 0], out=[1, 2, 4, 4], name_kernel=True), tmp_path / "a.onnx")
    main(["-m1", str(tmp_path / "a.onnx"), "-m2", str(tmp_path / "b.onnx")])
    logged = capsys.readouterr()
    assert logged.out == f"{tmp_path / 'b.onnx'}\n"
    assert logged.err == "y: pads [1, 1, 0, 0] -> [1, 0, 1, 0]\n1 convolutions repaired.\n"
    main(["-m1", str(tmp_path / "b.onnx"), "-m2", str(tmp_path / "c.onnx")])
    assert "copied unchanged" in capsys.readouterr().err
