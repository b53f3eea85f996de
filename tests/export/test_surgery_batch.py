"""The batch written into graphs, and the rows of a sample averaged."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import Array, graph, integers, noise, ops, run, shift_graph

from export.surgery.pass_types import AverageClips
from export.surgery.run import run_passes
from vidom.errors import BadDataError, UsageError


def at_batch(model: ir.Model, batch: int) -> ir.Model:
    return run_passes(model, passes=["set-batch"], batch_size=batch).model


def by_ones(model: ir.Model, samples: Array) -> Array:
    """Return the rows of `model`, exported at batch 1, for each of `samples` in turn."""
    return np.concatenate([run(model, sample[None])[0] for sample in samples])


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("exported", [1, 2, "n"])
@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_a_graph_of_any_batch_takes_any_other(exported: int | str, wanted: int) -> None:
    dims = {"views": 3, "segments": 4, "channels": 8, "classes": 5}
    samples = noise(wanted, 12, 8, 4)
    expected = by_ones(shift_graph(batch=1, **dims), samples)
    changed = at_batch(shift_graph(batch=exported, **dims), wanted)
    assert tuple(changed.graph.inputs[0].shape or ()) == (wanted, 12, 8, 4)
    assert tuple(changed.graph.outputs[0].shape or ()) == (wanted * 3, 5)
    np.testing.assert_allclose(run(changed, samples)[0], expected, atol=1e-6)


def test_a_batch_computed_from_the_input_follows() -> None:
    model = graph(
        """
        g (float[2,6,4] x) => (float[2,24] y) {
          shape = Shape(x)
          batch = Gather(shape, zero)
          target = Concat<axis = 0>(batch, rest)
          y = Reshape(x, target)
        }""",
        zero=integers(0),
        rest=integers(-1),
    )
    changed = at_batch(model, 5)
    assert ops(changed) == ["Reshape"]
    np.testing.assert_array_equal(run(changed, noise(5, 6, 4))[0], noise(5, 6, 4).reshape(5, 24))


def test_a_zero_block_grows_with_the_batch() -> None:
    model = graph(
        "g (float[2,3,4] x) => (float[2,4,4] y) { y = Concat<axis = 1>(zeros, x) }",
        zeros=np.zeros((2, 1, 4), dtype=np.float32),
    )
    sample = noise(5, 3, 4)
    np.testing.assert_array_equal(run(at_batch(model, 5), sample)[0][:, 1:], sample)


BAKED = {
    "a slice of the batch axis": ("y = Slice(x, zero, two, zero)", {"zero": integers(0), "two": integers(2)}),
    "a constant per sample": ("y = Add(x, w)", {"w": noise(2, 4)}),
    "a block per sample": ("y = Concat<axis = 1>(x, w)", {"w": noise(2, 4)}),
    "a mean over the batch": ("y = ReduceMean<axes = [0]>(x)", {}),
    "a transposed batch": ("y = Transpose<perm = [1, 0]>(x)", {}),
    "a batch that does not divide": ("y = Reshape(x, all)", {"all": integers(-1, 8)}),
}


@pytest.mark.parametrize("name", BAKED)
def test_a_batch_baked_into_anything_else_is_refused_with_the_node(name: str) -> None:
    body, weights = BAKED[name]
    model = graph(f"g (float[2,4] x) => (float[a,b] y) {{ {body} }}", **weights)
    with pytest.raises(BadDataError, match=r"Batch size 6 cannot be set.*(node|computed by)"):
        at_batch(model, 6)


def test_other_unknown_sizes_are_refused() -> None:
    model = graph("g (float[2,n] x) => (float[2,n] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="unknown sizes at dimension 1"):
        at_batch(model, 3)


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1, found 0"):
        at_batch(graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"), 0)


def test_two_inputs_are_refused() -> None:
    model = graph("g (float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Add(x, z) }")
    with pytest.raises(BadDataError, match="found 2: x, z"):
        at_batch(model, 3)


def test_without_a_batch_nothing_is_written() -> None:
    model = shift_graph(batch="n", views=1, segments=4, channels=8, classes=3)
    result = run_passes(model, passes=["set-batch"])
    assert not result.modified


# average-views

SIZES = [(1, 2, 4, 3), (2, 6, 8, 5), (3, 3, 2, 7)]


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
