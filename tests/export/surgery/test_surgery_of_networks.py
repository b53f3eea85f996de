"""Surgery on complete networks: graphs of mmaction2's exporter and our own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import (
    assert_equivalent,
    equivalent,
    noise,
    ops,
    run,
    shift_graph,
    skeleton,
    slices_of_slices,
    torch_graph,
)

from export.surgery.model_file import model_bytes, parse_model
from export.surgery.pass_manager import run_passes
from networks.tsm import TSM

pytestmark = pytest.mark.slow

SKELETONS = Path(__file__).parents[2] / "fixtures" / "onnx_skeletons"
TSM_SKELETONS = ("tsm_sthv2_bs1_torch1.9", "tsm_sthv2_bs1_torch1.9_sim", "tsm_sthv2_bs1_torch2.13")
I3D_SKELETONS = ("i3d_k400_bs1_torch1.9", "i3d_k400_bs1_torch1.9_sim", "i3d_k400_bs1_torch2.13")
CLUTTER = (
    "Cast",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Gather",
    "Identity",
    "Mul",
    "Shape",
    "Sub",
    "Unsqueeze",
)


def exported(name: str, *, shrink: int = 1) -> ir.Model:
    return skeleton(SKELETONS / f"{name}.skeleton.onnx", shrink=shrink)


def max_rank(model: ir.Model) -> int:
    return max(len(value.shape or ()) for node in model.graph for value in node.outputs)


def assert_clean(model: ir.Model) -> None:
    assert not Counter(ops(model)).keys() & set(CLUTTER)
    assert not slices_of_slices(model)
    assert dict(model.opset_imports) == {"": 11}
    assert model.ir_version == 6
    assert all(
        value.shape is not None and value.shape.is_static() for node in model.graph for value in node.outputs
    )
    assert not [value for value in model.graph.inputs if value.is_initializer()]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", TSM_SKELETONS)
def test_tsm_of_mmaction2_is_optimized_and_equivalent(name: str, batch: int) -> None:
    original = exported(name, shrink=8)
    modified = run_passes(original, batch_size=batch).model
    assert_clean(modified)
    assert tuple(modified.graph.outputs[0].shape or ()) == (batch, 174)
    assert [value.name for value in modified.graph.outputs] == [
        value.name for value in original.graph.outputs
    ]
    # 16 shifts of two padded slices and the rest, joined once; the convolutions as they were. What is left to reshape
    # is the input, into frames ordered by time, and the features for their mean.
    assert {op: ops(modified).count(op) for op in ("Conv", "Slice", "Pad", "Concat", "Reshape")} == {
        "Conv": 53,
        "Slice": 48,
        "Pad": 32,
        "Concat": 16,
        "Reshape": 3,
    }
    assert max_rank(modified) == 4
    assert_equivalent(original, modified, rounds=1)


def test_prob_averages_the_six_clips_probabilities() -> None:
    original = exported(TSM_SKELETONS[0], shrink=8)
    modified = run_passes(original, average_clips="prob").model
    sample = noise(1, 48, 3, 32, 32)
    expected = run(original, sample)[0].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(run(modified, sample)[0], expected, atol=1e-6)
    assert not equivalent(original, modified, average_clips="score", rounds=1)


def test_a_full_size_graph_gives_the_same_logits() -> None:
    original = exported(TSM_SKELETONS[2])
    assert_equivalent(original, run_passes(original).model, rounds=1)


@pytest.mark.parametrize("name", I3D_SKELETONS)
def test_i3d_is_equivalent(name: str) -> None:
    original = exported(name)
    modified = run_passes(original, batch_size=2).model
    assert_clean(modified)
    before, after = Counter(ops(original)), Counter(ops(modified))
    assert {op: count for op, count in before.items() if op not in (*CLUTTER, "Concat")} == after
    # Every filter of the original is still there, bit for bit.
    weights = [digests(model) for model in (original, modified)]
    assert weights[0] == weights[1]


def digests(model: ir.Model) -> set[str]:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return {
        hashlib.sha256(tensor.tobytes()).hexdigest()
        for tensor in tensors
        if tensor is not None and tensor.size > 99
    }


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("exported_batch", [1, 2])
@pytest.mark.parametrize("opset", [11, 13])
def test_our_own_export_is_optimized_and_equivalent(opset: int, exported_batch: int, batch: int) -> None:
    network = TSM(depth=18, num_classes=7, num_segments=4, base_channels=8)
    original = torch_graph(network, exported_batch, 12, 3, 32, 32, opset=opset)
    modified = run_passes(original, batch_size=batch).model
    assert not slices_of_slices(modified)
    assert not Counter(ops(modified)).keys() & set(CLUTTER)
    assert tuple(modified.graph.outputs[0].shape or ()) == (batch, 7)
    assert_equivalent(original, modified)


def test_our_own_export_with_a_symbolic_batch_takes_a_number() -> None:
    network = TSM(depth=10, num_classes=5, num_segments=4, base_channels=8)
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    original = torch_graph(network, 1, 8, 3, 32, 32, **names)
    kept = run_passes(original).model
    modified = run_passes(original, batch_size=3).model
    assert tuple(modified.graph.outputs[0].shape or ()) == (3, 5)
    assert equivalent(original, modified)
    assert equivalent(original, kept, average_clips="keep")


SHIFTS = [
    {"batch": 2, "views": 6, "segments": 8, "channels": 16, "classes": 11},
    {"batch": 1, "views": 1, "segments": 3, "channels": 8, "classes": 2},
    {"batch": 3, "views": 10, "segments": 16, "channels": 4, "classes": 5},
]


@pytest.mark.parametrize("dims", SHIFTS)
@pytest.mark.parametrize("batch", [1, 5])
def test_any_number_of_segments_views_and_classes(dims: dict[str, int], batch: int) -> None:
    original = shift_graph(**dims)
    modified = run_passes(original, batch_size=batch).model
    assert Counter(ops(modified))["Slice"] == 3
    assert_clean(modified)
    assert_equivalent(original, modified, rounds=4)


@pytest.mark.parametrize("name", [*TSM_SKELETONS[::2], I3D_SKELETONS[0]])
def test_surgery_on_the_result_changes_nothing(name: str) -> None:
    content = model_bytes(run_passes(exported(name), batch_size=4).model)
    again = run_passes(parse_model(content, origin=Path(name)), batch_size=4)
    assert not again.modified, [step.name for step in again.steps if step.modified]
    assert model_bytes(again.model) == content


HASH = """
import hashlib, sys
from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from surgery_graphs import skeleton
from pathlib import Path
print(hashlib.sha256(model_bytes(run_passes(skeleton(Path(sys.argv[1])), batch_size=2).model)).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_run() -> None:
    path = SKELETONS / f"{TSM_SKELETONS[0]}.skeleton.onnx"
    here = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), str(Path(__file__).parents[3])])
    found = set()
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": here}
        command = [sys.executable, "-c", HASH, str(path)]
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def swapped(model: ir.Model) -> ir.Model:
    """The same graph with its first two Pads, the two directions of one shift, exchanged."""
    twin = model.clone()
    first, second = [node for node in twin.graph if node.op_type == "Pad"][:2]
    pads = first.inputs[1], second.inputs[1]
    first.replace_input_with(1, pads[1])
    second.replace_input_with(1, pads[0])
    return twin


@pytest.mark.parametrize("how", ["score", "prob"])
def test_a_shift_in_the_wrong_direction_is_detected(how: str) -> None:
    original = shift_graph(batch=1, views=3, segments=4, channels=8, classes=5)
    right = run_passes(original, batch_size=2, average_clips=how).model  # type: ignore[arg-type]
    assert equivalent(original, right, average_clips=how)  # type: ignore[arg-type]
    assert not equivalent(original, swapped(right), average_clips=how)  # type: ignore[arg-type]


def test_nan_is_not_equivalent() -> None:
    original = shift_graph(batch=1, views=1, segments=4, channels=8, classes=5)
    broken = original.clone()
    weights = broken.graph.initializers["w"]
    weights.const_value = ir.tensor(np.full((32, 5), np.nan, dtype=np.float32), name="w")
    assert not equivalent(original, broken)
    assert not equivalent(broken, broken)
