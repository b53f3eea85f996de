"""The pass concat-zeros-to-pad."""

from __future__ import annotations

import numpy as np
import pytest
from surgery_graphs import (
    after,
    assert_same,
    graph,
    ops,
)


@pytest.mark.parametrize("order", ["z, x", "x, z", "z, x, z", "z, z, x"])
@pytest.mark.parametrize("opset", [11, 13])
def test_zero_blocks_at_the_ends_are_padding(order: str, opset: int) -> None:
    length = 4 + 2 * order.count("z")
    model = graph(
        f"g (float[3,4,2] x) => (float[3,{length},2] y) {{ y = Concat<axis = -2>({order}) }}",
        opset=opset,
        z=np.zeros((3, 2, 2), dtype=np.float32),
    )
    padded = after(model, "concat-zeros-to-pad")
    assert ops(padded) == ["Pad"]
    assert padded.graph.outputs[0].name == "y"
    assert_same(model, padded, 3, 4, 2)


@pytest.mark.parametrize(("block", "order"), [(0.0, "x, z, x"), (1e-30, "x, z"), (-0.0, "x, z")])
def test_other_joins_stay(block: float, order: str) -> None:
    model = graph(
        f"g (float[3,2] x) => (float[3,n] y) {{ y = Concat<axis = 1>({order}) }}",
        z=np.full((3, 2), block, dtype=np.float32),
    )
    assert ops(after(model, "concat-zeros-to-pad")) == ["Concat"]
