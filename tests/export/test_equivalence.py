"""The equivalence check after surgery: what it detects, and by which tolerance."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import graph, noise

from export.verification.equivalence import check_equivalence
from export.verification.number_format import number_format
from export.verification.probe import Probe, random_samples
from vidom.errors import BadDataError

CLASSES = 174


def classifier(weights: np.ndarray) -> ir.Model:
    classes = weights.shape[1]
    text = f"g (float[2,8] x) => (float[2,{classes}] y) {{ z = MatMul(x, w) y = Softmax<axis = 1>(z) }}"
    return graph(text, w=weights)


def test_logits_reveal_what_probabilities_near_one_over_classes_hide() -> None:
    weights = 1e-4 * noise(8, CLASSES)
    original, swapped = classifier(weights), classifier(weights[:, ::-1].copy())
    samples = random_samples(2, (8,), np.dtype(np.float32))
    rows = [Probe.of(model).run(samples, np.arange(2))["y"].rows for model in (original, swapped)]
    assert np.abs(rows[0] - rows[1]).max() < 5e-5
    (parity,) = check_equivalence(original, swapped)
    assert not parity.passed
    assert parity.relative_logits is not None and parity.relative_logits > 0.5
    assert check_equivalence(original, original)[0].passed


def test_an_average_of_probabilities_is_not_one_of_logits() -> None:
    weights = 1e-2 * noise(8, 5)
    mean = {
        "score": "m = ReduceMean<axes = [1], keepdims = 0>(r) y = Softmax<axis = 1>(m)",
        "prob": "p = Softmax<axis = 2>(r) y = ReduceMean<axes = [1], keepdims = 0>(p)",
    }
    shape = np.array([2, 3, 5], dtype=np.int64)
    head = "g (float[2,3,8] x) => (float[2,5] y) { z = MatMul(x, w) r = Reshape(z, s) "
    models = {how: graph(f"{head}{text} }}", opset=13, w=10 * weights, s=shape) for how, text in mean.items()}
    (parity,) = check_equivalence(models["score"], models["prob"])
    assert not parity.passed


def test_the_final_softmax_is_taken_not_one_inside_the_network() -> None:
    text = """g (float[2,8] x) => (float[2,5] y) {
        a = Softmax<axis = 1>(x) b = Mul(a, x) z = MatMul(b, w) y = Softmax<axis = 1>(z) }"""
    weights = noise(8, 5)
    samples = random_samples(2, (8,), np.dtype(np.float32))
    output = Probe.of(graph(text, w=weights)).run(samples, np.arange(2))["y"]
    powers = np.exp(samples.astype(np.float64))
    expected = powers / powers.sum(axis=1, keepdims=True) * samples @ weights
    assert output.logits is not None
    np.testing.assert_allclose(output.logits[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_samples_that_do_not_divide_into_batches_and_rows_are_put_back_in_order() -> None:
    text = "g (float[3,4] x) => (float[6,2] y) { y = Reshape(x, s) }"
    probe = Probe.of(graph(text, s=np.array([6, 2], dtype=np.int64)))
    samples = random_samples(2, (4,), np.dtype(np.float32))
    order = np.array([0, 1, 1, 0, 1])
    rows = probe.run(samples, order)["y"].rows
    np.testing.assert_array_equal(rows, samples[order].reshape(5, 2, 2))


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
    if expected != "bfloat16":  # ONNX Runtime's CPU cannot run it
        plain = graph("g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }", opset=13)
        (parity,) = check_equivalence(plain, model)
        assert parity.number_format == expected


def test_pixels_are_not_int8_arithmetic() -> None:
    model = graph("g (uint8[1,3] x) => (float[1,3] y) { y = Cast<to = 1>(x) }")
    assert number_format(model) == "float32"


def test_graphs_of_different_inputs_are_rejected() -> None:
    first = graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    second = graph("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }")
    with pytest.raises(BadDataError, match="take different samples"):
        check_equivalence(first, second)


def test_logits_with_the_clips_in_a_dimension_of_their_own_are_those_of_each_clip() -> None:
    text = """g (float[2,3,8] x) => (float[2,5] y) {
        z = MatMul(x, w) p = Softmax<axis = 2>(z) y = ReduceMean<axes = [1], keepdims = 0>(p) }"""
    weights = noise(8, 5)
    samples = random_samples(2, (3, 8), np.dtype(np.float32))
    output = Probe.of(graph(text, opset=13, w=weights)).run(samples, np.arange(2))["y"]
    assert output.logits is not None and output.rows.shape == (2, 1, 5)
    np.testing.assert_allclose(output.logits, samples @ weights, rtol=1e-5, atol=1e-6)
