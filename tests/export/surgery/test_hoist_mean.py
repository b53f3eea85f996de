"""The pass hoist-mean."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
import pytest
from shifted_networks import exported
from surgery_graphs import assert_same, graph, integers, noise, ops

from export.surgery.pass_manager import run_passes

WEIGHTS = {"w": noise(5, 3), "b": noise(3)}


def hoisted(model: ir.Model) -> ir.Model:
    return run_passes(model, passes=["hoist-mean", "dead-node-elimination"]).model


def shape_of(model: ir.Model, op: str) -> tuple[int, ...]:
    return tuple(next(node for node in model.graph if node.op_type == op).outputs[0].shape or ())


@pytest.mark.parametrize("layer", ["l = Gemm(x, w, b)", "p = MatMul(x, w) l = Add(p, b)"])
@pytest.mark.parametrize("squeezed", [False, True])
def test_the_mean_of_products_is_the_product_of_the_mean(layer: str, squeezed: bool) -> None:
    mean = "m = ReduceMean<axes = [1], keepdims = 1>(r) y = Squeeze<axes = [1]>(m)"
    mean = mean if squeezed else "y = ReduceMean<axes = [1], keepdims = 0>(r)"
    text = f"g (float[8,5] x) => (float[2,3] y) {{ {layer} r = Reshape(l, dims) {mean} }}"
    model = graph(text, dims=integers(2, 4, 3), **WEIGHTS)
    modified = hoisted(model)
    assert ops(modified)[:2] == ["Reshape", "ReduceMean"]
    assert "Squeeze" not in ops(modified)
    assert [value.name for value in modified.graph.outputs] == ["y"]
    assert_same(model, modified, 8, 5, atol=1e-6)


def test_means_of_means_become_one() -> None:
    text = """g (float[24,5] x) => (float[1,3] y) {
      l = Gemm(x, w, b) r = Reshape(l, clips) m = ReduceMean<axes = [1], keepdims = 0>(r)
      v = Reshape(m, views) y = ReduceMean<axes = [1], keepdims = 0>(v) }"""
    model = graph(text, clips=integers(6, 4, 3), views=integers(1, 6, 3), **WEIGHTS)
    modified = hoisted(model)
    assert ops(modified) == ["Reshape", "ReduceMean", "Gemm"]
    assert_same(model, modified, 24, 5, atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "s = Softmax<axis = 1>(l) r = Reshape(s, dims)",
        "s = Relu(l) r = Reshape(s, dims)",
        "r = Reshape(l, mixed)",
    ],
)
def test_the_mean_is_not_hoisted_over_nonlinear_operators(body: str) -> None:
    text = f"""g (float[8,5] x) => (float[2,n] y) {{
      l = Gemm(x, w, b) {body} y = ReduceMean<axes = [1], keepdims = 0>(r) }}"""
    model = graph(text, dims=integers(2, 4, 3), mixed=integers(2, 3, 4), **WEIGHTS)
    assert ops(hoisted(model)) == ops(model)


def test_a_layer_with_further_users_stays() -> None:
    text = """g (float[8,5] x) => (float[2,3] y, float[8,3] z) {
      l = Gemm(x, w, b) z = Relu(l) r = Reshape(l, dims) y = ReduceMean<axes = [1], keepdims = 0>(r) }"""
    model = graph(text, dims=integers(2, 4, 3), **WEIGHTS)
    assert ops(hoisted(model)) == ops(model)


@pytest.mark.slow
def test_the_classifier_of_tsm_sees_one_row_for_a_sample() -> None:
    original = exported("tsm", clips=6, depth=10)
    modified = run_passes(original, batch_size=3).model
    assert shape_of(modified, "Gemm") == (3, 7)
    assert Counter(ops(modified))["ReduceMean"] == 1
    by_view = run_passes(exported("tsm", clips=6, depth=10, average="prob"), batch_size=3).model
    assert shape_of(by_view, "Gemm") == (18, 7)
