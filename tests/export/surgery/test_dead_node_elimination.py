"""The pass dead-node-elimination."""

from __future__ import annotations

from surgery_graphs import (
    after,
    assert_same,
    graph,
    noise,
    ops,
)


def test_nothing_unneeded_is_left() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,3] y) { a = Identity(x) b = Relu(a) unused = Add(a, v) y = Identity(b) }",
        domains=', "ai.onnx.ml" : 2',
        v=noise(3),
    )
    cleaned = after(model, "dead-node-elimination")
    assert ops(cleaned) == ["Relu"]
    assert not cleaned.graph.initializers
    assert dict(cleaned.opset_imports) == {"": 11}
    assert [value.name for value in (*cleaned.graph.inputs, *cleaned.graph.outputs)] == ["x", "y"]
    assert_same(model, cleaned, 2, 3)
