"""Frames ordered by time first: what is rewritten, for whom, and what is left alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from shifted_networks import exported
from surgery_graphs import assert_equivalent, equivalent, ops, shift_graph

from export.lint.linter import lint
from export.lint.subject import read_subject
from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from export.surgery.pass_types import Target
from export.surgery.shapes import resolved
from export.surgery.time_shift import Part, find_time_shifts
from vidom.errors import BadDataError

BEFORE = (
    "set-batch",
    "fold-constants",
    "common-subexpression-elimination",
    "concat-zeros-to-pad",
    "merge-slices",
)


def by_time(model: ir.Model, batch: int, target: Target = "ascend310p") -> ir.Model:
    chosen = (*BEFORE, "hoist-mean", "time-major", "dead-node-elimination")
    return run_passes(model, passes=chosen, batch_size=batch, target=target).model


def assert_equal(original: ir.Model, modified: ir.Model) -> None:
    assert_equivalent(original, modified, relative=2e-5)


def ranks(model: ir.Model) -> Counter[int]:
    return Counter(len(value.shape or ()) for node in model.graph for value in node.outputs)


@pytest.mark.slow
def test_shifts_are_found_as_the_networks_define_them() -> None:
    for arch, depth, segments, wanted in [
        ("tsm", 10, 4, (Part(0, 2, 1), Part(2, 4, -1), Part(4, 16, 0))),
        # 16 / 6 and 32 / 6 rounded down: parts of 2 and of 3 channels, the earlier frame first.
        ("pptsm", 50, 6, (Part(0, 2, -1), Part(2, 5, 1), Part(5, 16, 0))),
    ]:
        original = exported(arch, segments=segments, depth=depth, clips=6 if depth == 10 else 3)
        model = run_passes(original, passes=BEFORE, batch_size=1).model
        shifts = find_time_shifts(model, resolved(model))
        assert len(shifts) == (4 if depth == 10 else 16)
        assert shifts[0].parts == wanted
        assert {shift.segments for shift in shifts} == {segments}


CASES: list[tuple[str, int, int, int, int, Target]] = [
    ("tsm", 10, 4, 6, 3, "ascend310p"),
    ("tsm", 10, 4, 6, 3, "cpu"),
    ("tsm", 10, 5, 1, 4, "ascend310p"),
    ("tsm", 10, 5, 1, 1, "cpu"),
    ("pptsm", 50, 6, 3, 1, "ascend310p"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "depth", "segments", "clips", "batch", "target"), CASES)
def test_shifts_move_contiguous_frames(
    arch: str, depth: int, segments: int, clips: int, batch: int, target: Target
) -> None:
    original = exported(arch, segments=segments, clips=clips, depth=depth)
    modified = by_time(original, batch, target)
    assert_equal(original, modified)
    assert max(ranks(modified)) == 4
    counts = Counter(ops(modified))
    assert counts["Transpose"] == (clips * batch > 1)
    assert counts["Reshape"] <= 3
    # One Pad for each direction; without negative pads a Slice before it.
    shifts = 4 if depth == 10 else 16
    assert (counts["Pad"], counts["Slice"]) == (2 * shifts, shifts * (1 if target == "cpu" else 3))
    smallest = min(int(pads.min()) for pads in all_pads(modified))
    assert smallest < 0 if target == "cpu" else smallest == 0
    again = by_time(modified, batch, target)
    assert model_bytes(again) == model_bytes(modified)


def all_pads(model: ir.Model) -> list:
    return [
        node.inputs[1].const_value.numpy() for node in model.graph if node.op_type == "Pad" and node.inputs[1]
    ]


def test_probabilities_are_averaged_after_softmax() -> None:
    original = exported("tsm", clips=6, depth=10, average="prob")
    modified = by_time(original, 2)
    assert_equal(original, modified)
    assert max(ranks(modified)) == 4


def test_lint_reports_nothing_new(tmp_path: Path) -> None:
    original = exported("tsm", clips=6, depth=10)
    said = []
    for name, passes in (("old", BEFORE), ("new", (*BEFORE, "hoist-mean", "time-major"))):
        chosen = [*passes, "dead-node-elimination"]
        path = tmp_path / f"{name}.onnx"
        onnx.save(ir.to_proto(run_passes(original, passes=chosen, batch_size=4).model), path)
        said.append({(found.rule, found.severity) for found in lint(read_subject(path))})
    assert said[1] <= said[0]
    assert "error" not in {severity for _, severity in said[1]}


def test_frames_mixed_elsewhere_keep_the_order() -> None:
    # The features of a clip go through one product, so that its frames meet before the mean.
    model = shift_graph(batch=2, views=3, segments=4, channels=8, classes=5)
    modified = run_passes(model, batch_size=2).model
    assert "Transpose" not in ops(modified)
    assert equivalent(model, modified)


def test_an_output_of_rows_of_frames_keeps_the_order() -> None:
    model = exported("tsm", clips=6, depth=10).clone()
    features = next(node for node in model.graph if node.op_type == "GlobalAveragePool").outputs[0]
    model.graph.outputs.append(features)
    assert "Transpose" not in ops(by_time(model, 1))


def test_the_batch_size_cannot_be_changed_afterwards() -> None:
    modified = by_time(exported("tsm", depth=10), 1, "cpu")
    with pytest.raises(BadDataError, match="moves frames by a distance"):
        run_passes(modified, batch_size=3, target="cpu")


def test_a_network_without_shifts_is_left_alone() -> None:
    steps = run_passes(exported("tsn", depth=10), batch_size=2, target="cpu").steps
    assert not {"time-major", "split-shift"} & {step.name for step in steps if step.modified}
