"""The probe of a graph: logits before the final Softmax, batches and rows per sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from surgery_graphs import graph, noise

from export.verification.probe import Probe, random_samples
from export.verification.session import Session
from vidom.errors import BadDataError


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


def test_logits_with_the_clips_in_a_dimension_of_their_own_are_those_of_each_clip() -> None:
    text = """g (float[2,3,8] x) => (float[2,5] y) {
        z = MatMul(x, w) p = Softmax<axis = 2>(z) y = ReduceMean<axes = [1], keepdims = 0>(p) }"""
    weights = noise(8, 5)
    samples = random_samples(2, (3, 8), np.dtype(np.float32))
    output = Probe.of(graph(text, opset=13, w=weights)).run(samples, np.arange(2))["y"]
    assert output.logits is not None and output.rows.shape == (2, 1, 5)
    np.testing.assert_allclose(output.logits, samples @ weights, rtol=1e-5, atol=1e-6)


def test_an_fp16_graph_with_a_cast_after_its_softmax_still_has_logits() -> None:
    text = """g (float[2,8] x) => (float[2,5] y) {
        h = Cast<to = 10>(x) z = MatMul(h, w) p = Softmax<axis = 1>(z) y = Cast<to = 1>(p) }"""
    output = Probe.of(graph(text, opset=13, w=noise(8, 5).astype(np.float16))).run(
        random_samples(2, (8,), np.dtype(np.float32)), np.arange(2)
    )["y"]
    assert output.logits is not None and output.logits.shape == (2, 1, 5)


def test_graphs_that_onnx_runtime_rejects_and_inputs_that_do_not_fit_are_bad_data() -> None:
    with pytest.raises(BadDataError, match="rejects the graph"):
        Session(b"not a graph")
    probe = Probe.of(graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"))
    with pytest.raises(BadDataError, match="cannot run the graph"):
        Session(probe.content).run({"x": np.zeros((2, 4), dtype=np.float32)})


def test_samples_of_other_types_are_rejected() -> None:
    with pytest.raises(BadDataError, match="int64 samples"):
        random_samples(1, (3,), np.dtype(np.int64))


def test_a_graph_that_never_ends_is_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    # The reader of files refuses such a graph; a runtime must not depend on that.
    content = (Path(__file__).parents[1] / "fixtures" / "attacks" / "o_loop_forever.onnx").read_bytes()
    session = Session(content, time_limit=0.5)
    with pytest.raises(BadDataError, match=r"after 0\.5 s and was stopped"):
        session.run({"x": np.zeros((1, 4), dtype=np.float32)})
    # The paragraph is all that its user sees.
    assert capfd.readouterr().err == ""
