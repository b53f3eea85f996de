"""The list of passes, and what run_passes does with graphs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from surgery_graphs import (
    graph,
    noise,
    shift_graph,
)

from export.surgery.pass_manager import run_passes
from vidom.errors import BadDataError, UsageError


def test_an_unknown_pass_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean merge-slices"):
        run_passes(shift_graph(batch=1, views=1, segments=4, channels=8, classes=3), passes=["merge_slice"])


def test_names_of_earlier_versions_select_the_present_passes() -> None:
    earlier = (
        "share-duplicates",
        "zero-blanks",
        "pad-blanks",
        "average-early",
        "pool-stride",
        "eliminate-dead",
    )
    model = shift_graph(batch=1, views=1, segments=4, channels=8, classes=3)
    assert [step.name for step in run_passes(model, passes=earlier).steps] == [
        "common-subexpression-elimination",
        "constant-fold-zeros",
        "concat-zeros-to-pad",
        "hoist-mean",
        "push-stride",
        "dead-node-elimination",
    ]


def test_no_pass_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="No pass was given"):
        run_passes(shift_graph(batch=1, views=1, segments=4, channels=8, classes=3), passes=[])


def test_the_graph_that_is_given_stays_as_it_is() -> None:
    model = shift_graph(batch=1, views=2, segments=4, channels=8, classes=3)
    before = ir.to_proto(model).SerializeToString()
    run_passes(model, batch_size=3)
    assert ir.to_proto(model).SerializeToString() == before


def test_contradicting_shapes_are_named() -> None:
    model = graph("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Add(a, w) }", w=noise(5))
    with pytest.raises(BadDataError, match=r"\(Add\) contradict"):
        run_passes(model)
