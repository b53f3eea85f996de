"""The pass constant-fold-zeros."""

from __future__ import annotations

import numpy as np
from surgery_graphs import (
    after,
    assert_same,
    graph,
    integers,
    noise,
    ops,
    run,
)

from export.surgery.values import constant


def test_a_difference_of_one_value_with_itself_is_a_constant() -> None:
    model = graph("g (float[2,3] x) => (float[2,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    folded = after(model, "constant-fold-zeros")
    assert ops(folded) == ["Concat"]
    (block,) = folded.graph.initializers.values()
    np.testing.assert_array_equal(constant(block), np.zeros((2, 3), dtype=np.float32))
    assert_same(model, folded, 2, 3)


def test_operands_that_are_equal_nodes_are_one_value() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,6] y) { a = Relu(x) b = Relu(x) z = Sub(a, b) y = Concat<axis = 1>(x, z) }"
    )
    assert "Sub" in ops(after(model, "constant-fold-zeros"))
    folded = after(model, "common-subexpression-elimination", "constant-fold-zeros")
    assert ops(folded) == ["Concat"]
    assert_same(model, folded, 2, 3)


def test_a_difference_of_two_values_stays() -> None:
    model = graph("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Sub(x, a) }")
    assert ops(after(model, "constant-fold-zeros", "concat-zeros-to-pad")) == ["Relu", "Sub"]


def test_a_piece_of_the_zeros_is_the_only_constant() -> None:
    model = graph(
        """
        g (float[2,5,3] x) => (float[2,6,3] y) {
          z = Sub(x, x)
          piece = Slice(z, zero, one, one)
          y = Concat<axis = 1>(x, piece)
        }""",
        zero=integers(0),
        one=integers(1),
    )
    folded = after(model, "constant-fold-zeros")
    assert [tuple(value.shape or ()) for value in folded.graph.initializers.values()] == [(2, 1, 3)]
    assert_same(model, folded, 2, 5, 3)


def test_zeros_of_a_symbolic_batch_stay_computed() -> None:
    model = graph("g (float[n,3] x) => (float[n,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    assert ops(after(model, "constant-fold-zeros")) == ["Sub", "Concat"]


def test_zeros_keep_their_type() -> None:
    model = graph("g (double[2,3] x) => (double[2,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    folded = after(model, "constant-fold-zeros", "concat-zeros-to-pad")
    assert ops(folded) == ["Pad"]
    sample = noise(2, 3).astype(np.float64)
    np.testing.assert_array_equal(run(folded, sample)[0], run(model, sample)[0])
