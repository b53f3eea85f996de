from __future__ import annotations

import numpy as np
import pytest
from surgery_graphs import graph, noise

from export.verification.equivalence import check_equivalence
from export.verification.number_format import number_format


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Add(x, w)", "float32"),
        ("h = Cast<to = 10>(x) y = Cast<to = 1>(h)", "float16"),
        ("h = Cast<to = 16>(x) y = Cast<to = 1>(h)", "bfloat16"),
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", "int8"),
    ],
)
def test_the_format_follows_from_the_graph(body: str, expected: str) -> None:
    constants = {"w": noise(3), "s": np.float32(0.05), "z": np.int8(0)}
    used = {name: np.asarray(array) for name, array in constants.items() if f" {name}" in body}
    model = graph(f"g (float[2,3] x) => (float[2,3] y) {{ {body} }}", opset=13, **used)
    assert number_format(model) == expected
    plain = graph("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }", opset=13)
    (parity,) = check_equivalence(plain, model)
    assert parity.number_format == expected


def test_pixels_are_not_int8_arithmetic() -> None:
    model = graph("g (uint8[1,3] x) => (float[1,3] y) { y = Cast<to = 1>(x) }")
    assert number_format(model) == "float32"
