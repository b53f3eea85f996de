"""The pass set-batch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import Array, graph, integers, noise, ops, run, shift_graph

from export.surgery.pass_manager import run_passes
from vidom.errors import BadDataError, UsageError


def at_batch(model: ir.Model, batch: int) -> ir.Model:
    return run_passes(model, passes=["set-batch"], batch_size=batch).model


def by_ones(model: ir.Model, samples: Array) -> Array:
    """Return the rows of `model`, exported at batch 1, for each of `samples`."""
    return np.concatenate([run(model, sample[None])[0] for sample in samples])


@pytest.mark.parametrize("exported", [1, 2, "n"])
@pytest.mark.parametrize("target", [1, 3, 4])
def test_any_batch_size_can_be_changed_to_any_other(exported: int | str, target: int) -> None:
    dims = {"views": 3, "segments": 4, "channels": 8, "classes": 5}
    samples = noise(target, 12, 8, 4)
    expected = by_ones(shift_graph(batch=1, **dims), samples)
    changed = at_batch(shift_graph(batch=exported, **dims), target)
    assert tuple(changed.graph.inputs[0].shape or ()) == (target, 12, 8, 4)
    assert tuple(changed.graph.outputs[0].shape or ()) == (target * 3, 5)
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
def test_a_hard_coded_batch_size_is_rejected_with_the_node(name: str) -> None:
    body, weights = BAKED[name]
    model = graph(f"g (float[2,4] x) => (float[a,b] y) {{ {body} }}", **weights)
    with pytest.raises(BadDataError, match=r"Batch size 6 cannot be set.*(node|computed by)"):
        at_batch(model, 6)


def test_other_unknown_sizes_are_rejected() -> None:
    model = graph("g (float[2,n] x) => (float[2,n] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="unknown sizes at dimension 1"):
        at_batch(model, 3)


def test_a_batch_size_below_one_is_rejected() -> None:
    with pytest.raises(UsageError, match="at least 1, found 0"):
        at_batch(graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"), 0)


def test_two_inputs_are_rejected() -> None:
    model = graph("g (float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Add(x, z) }")
    with pytest.raises(BadDataError, match="found 2: x, z"):
        at_batch(model, 3)


def test_without_a_batch_size_nothing_changes() -> None:
    model = shift_graph(batch="n", views=1, segments=4, channels=8, classes=3)
    result = run_passes(model, passes=["set-batch"])
    assert not result.modified
