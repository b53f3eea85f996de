"""The pass fold-constants."""

from __future__ import annotations

import numpy as np
import pytest
from surgery_graphs import (
    after,
    assert_same,
    graph,
    integers,
    noise,
    ops,
)

from export.surgery import shapes
from vidom.errors import BadDataError


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
        dims=integers(1 << 10, 1 << 10, 1 << 10),
    )
    assert "ConstantOfShape" in ops(after(model, "fold-constants"))


def test_a_value_that_no_machine_holds_is_refused() -> None:
    model = graph(
        "g (float[1] x) => (float[a,b,c] y) { huge = ConstantOfShape(dims) y = Add(x, huge) }",
        dims=integers(1 << 20, 1 << 20, 1 << 10),
    )
    with pytest.raises(BadDataError, match="huge of the graph has 1048576×1048576×1024 elements"):
        after(model, "merge-slices")


def test_many_large_constants_are_computed_up_to_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_MOST_CONSTANTS", 100)
    body = " ".join(f"c{i} = Expand(one, dims{i}) x{i + 1} = Add(x{i}, c{i})" for i in range(4))
    model = graph(
        f"g (float[1] x0) => (float[a] x4) {{ {body} }}",
        one=noise(1),
        **{f"dims{i}": integers(40) for i in range(4)},
    )
    folded = after(model, "fold-constants")
    assert ops(folded).count("Expand") == 2
    assert_same(model, folded, 1)


def test_what_depends_on_a_symbolic_batch_stays() -> None:
    model = graph(
        "g (float[n,6] x) => (float[a,b] y) { shape = Shape(x) y = Reshape(x, shape) }",
    )
    assert_same(model, after(model, "fold-constants"), 3, 6)
