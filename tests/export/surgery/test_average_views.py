"""The pass average-views."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import Array, graph, integers, noise, ops, run, shift_graph

from export.surgery.pass_manager import run_passes
from export.surgery.pass_types import AverageClips
from vidom.errors import UsageError

SIZES = [(1, 2, 4, 3), (2, 6, 8, 5), (3, 3, 2, 7)]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def averaged(model: ir.Model, how: AverageClips) -> ir.Model:
    return run_passes(model, passes=["average-views"], average_clips=how).model


def consensus(batch: int, views: int, segments: int, classes: int, tail: str) -> ir.Model:
    return graph(
        f"""
        g (float[{batch},{views * segments},{classes}] x) => (float[{batch * views},{classes}] y) {{
          frames = Relu(x)
          clips = Reshape(frames, head)
          mean = ReduceMean<axes = [1], keepdims = 1>(clips)
          {tail}
        }}""",
        head=integers(-1, segments, classes),
    )


@pytest.mark.parametrize(("batch", "views", "segments", "classes"), SIZES)
def test_score_is_softmax_of_the_mean_over_all_frames(
    batch: int, views: int, segments: int, classes: int
) -> None:
    tail = "logits = Squeeze<axes = [1]>(mean) y = Softmax<axis = 1>(logits)"
    model = consensus(batch, views, segments, classes, tail)
    changed = averaged(model, "score")
    assert ops(changed) == ops(model)
    sample = noise(batch, views * segments, classes)
    expected = softmax(np.maximum(sample.astype(np.float64), 0).mean(axis=1))
    np.testing.assert_allclose(run(changed, sample)[0], expected, atol=1e-6)


@pytest.mark.parametrize(("batch", "views", "segments", "classes"), SIZES)
def test_prob_is_the_mean_of_the_clips_probabilities(
    batch: int, views: int, segments: int, classes: int
) -> None:
    tail = "logits = Squeeze<axes = [1]>(mean) y = Softmax<axis = 1>(logits)"
    changed = averaged(consensus(batch, views, segments, classes, tail), "prob")
    sample = noise(batch, views * segments, classes)
    clips = np.maximum(sample.astype(np.float64), 0).reshape(batch, views, segments, classes)
    np.testing.assert_allclose(run(changed, sample)[0], softmax(clips.mean(axis=2)).mean(axis=1), atol=1e-6)
    assert changed.graph.outputs[0].name == "y"


def test_logits_are_averaged_for_score_and_rejected_for_prob() -> None:
    model = consensus(2, 3, 4, 5, "y = Squeeze<axes = [1]>(mean)")
    sample = noise(2, 12, 5)
    expected = np.maximum(sample, 0).mean(axis=1)
    np.testing.assert_allclose(run(averaged(model, "score"), sample)[0], expected, atol=1e-6)
    with pytest.raises(UsageError, match="no final Softmax"):
        averaged(model, "prob")


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("how", ["score", "prob"])
def test_rows_without_consensus_are_averaged_too(how: AverageClips, opset: int) -> None:
    model = graph(
        "g (float[2,3,4] x) => (float[6,5] y) "
        "{ rows = Reshape(x, flat) logits = Gemm(rows, w) y = Softmax<axis = 1>(logits) }",
        opset=opset,
        flat=integers(-1, 4),
        w=noise(4, 5),
    )
    sample = noise(2, 3, 4)
    logits = (sample.astype(np.float64).reshape(6, 4) @ noise(4, 5)).reshape(2, 3, 5)
    expected = softmax(logits.mean(axis=1)) if how == "score" else softmax(logits).mean(axis=1)
    np.testing.assert_allclose(run(averaged(model, how), sample)[0], expected, atol=1e-6)


@pytest.mark.parametrize("how", ["score", "prob", "keep"])
def test_one_row_per_sample_is_left_alone(how: AverageClips) -> None:
    model = shift_graph(batch=2, views=1, segments=4, channels=8, classes=3)
    assert not run_passes(model, passes=["average-views"], average_clips=how).modified


def test_keep_keeps_the_clips() -> None:
    model = shift_graph(batch=2, views=3, segments=4, channels=8, classes=5)
    assert tuple(run_passes(model, average_clips="keep").model.graph.outputs[0].shape or ()) == (6, 5)


def test_rows_that_are_no_class_scores_are_left_alone() -> None:
    model = graph("g (float[2,3,4] x) => (float[6,4] y) { y = Reshape(x, flat) }", flat=integers(-1, 4))
    assert not run_passes(model, passes=["average-views"]).modified
