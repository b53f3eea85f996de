"""The pass fold-constants."""

from __future__ import annotations

import numpy as np
from surgery_graphs import (
    after,
    assert_same,
    graph,
    integers,
    noise,
    ops,
)


def test_shape_arithmetic_is_computed_beforehand() -> None:
    model = graph(
        """
        clutter (float[2,6,4] x) => (float[a,b] y) {
          shape = Shape(x)
          channels = Gather(shape, one)
          half = Div(channels, two)
          count = Cast<to = 7>(half)
          rows = Unsqueeze<axes = [0]>(count)
          target = Concat<axis = 0>(rows, rest)
          y = Reshape(x, target)
        }""",
        one=np.array(1, dtype=np.int64),
        two=np.array(2, dtype=np.int64),
        rest=integers(-1),
    )
    folded = after(model, "fold-constants")
    assert ops(folded) == ["Reshape"]
    assert_same(model, folded, 2, 6, 4)


def test_weights_listed_as_inputs_are_weights_only() -> None:
    model = graph("g (float[2,3] x, float[3] w) => (float[2,3] y) { y = Add(x, w) }", w=noise(3))
    folded = after(model, "fold-constants")
    assert [value.name for value in folded.graph.inputs] == ["x"]
    assert_same(model, folded, 2, 3)


def test_a_constant_larger_than_any_file_is_left_to_run_time() -> None:
    model = graph(
        "g (float[1] x) => (float[a,b,c] y) { huge = ConstantOfShape(dims) y = Add(x, huge) }",
        dims=integers(1 << 20, 1 << 20, 1 << 10),
    )
    assert "ConstantOfShape" in ops(after(model, "fold-constants"))


def test_what_depends_on_a_symbolic_batch_stays() -> None:
    model = graph(
        "g (float[n,6] x) => (float[a,b] y) { shape = Shape(x) y = Reshape(x, shape) }",
    )
    assert_same(model, after(model, "fold-constants"), 3, 6)
