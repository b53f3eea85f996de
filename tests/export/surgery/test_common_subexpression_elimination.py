"""The pass common-subexpression-elimination."""

from __future__ import annotations

from surgery_graphs import (
    after,
    assert_same,
    graph,
    noise,
    ops,
)


def test_equal_nodes_and_equal_weights_become_one() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,3] y) { a = Add(x, v) b = Add(x, w) c = Relu(a) d = Relu(b) y = Mul(c, d) }",
        v=noise(3),
        w=noise(3),
    )
    shared = after(model, "common-subexpression-elimination")
    assert ops(shared) == ["Add", "Relu", "Mul"]
    assert list(shared.graph.initializers) == ["v"]
    assert_same(model, shared, 2, 3)
