"""The equivalence check after surgery: what it detects, and by which tolerance."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import graph, noise

from export.verification.equivalence import check_equivalence
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


def test_graphs_of_different_inputs_are_rejected() -> None:
    first = graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    second = graph("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }")
    with pytest.raises(BadDataError, match="take different samples"):
        check_equivalence(first, second)
