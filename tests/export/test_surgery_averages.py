"""Averages before the classifier, and strides of poolings in the convolutions before them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shifted_networks import exported
from surgery_graphs import assert_same, graph, integers, noise, ops, run, torch_graph

from export.surgery.run import run_passes
from networks.i3d import I3D

WEIGHTS = {"w": noise(5, 3), "b": noise(3)}


def early(model: ir.Model) -> ir.Model:
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
    modified = early(model)
    assert ops(modified)[:2] == ["Reshape", "ReduceMean"]
    assert "Squeeze" not in ops(modified)
    assert [value.name for value in modified.graph.outputs] == ["y"]
    assert_same(model, modified, 8, 5, atol=1e-6)


def test_means_of_means_become_one() -> None:
    text = """g (float[24,5] x) => (float[1,3] y) {
      l = Gemm(x, w, b) r = Reshape(l, clips) m = ReduceMean<axes = [1], keepdims = 0>(r)
      v = Reshape(m, views) y = ReduceMean<axes = [1], keepdims = 0>(v) }"""
    model = graph(text, clips=integers(6, 4, 3), views=integers(1, 6, 3), **WEIGHTS)
    modified = early(model)
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
def test_what_is_not_linear_in_rows_is_not_crossed(body: str) -> None:
    text = f"""g (float[8,5] x) => (float[2,n] y) {{
      l = Gemm(x, w, b) {body} y = ReduceMean<axes = [1], keepdims = 0>(r) }}"""
    model = graph(text, dims=integers(2, 4, 3), mixed=integers(2, 3, 4), **WEIGHTS)
    assert ops(early(model)) == ops(model)


def test_a_layer_that_others_read_stays() -> None:
    text = """g (float[8,5] x) => (float[2,3] y, float[8,3] z) {
      l = Gemm(x, w, b) z = Relu(l) r = Reshape(l, dims) y = ReduceMean<axes = [1], keepdims = 0>(r) }"""
    model = graph(text, dims=integers(2, 4, 3), **WEIGHTS)
    assert ops(early(model)) == ops(model)


def test_the_classifier_of_tsm_sees_one_row_for_a_sample() -> None:
    original = exported("tsm", clips=6, depth=10)
    modified = run_passes(original, batch_size=3).model
    assert shape_of(modified, "Gemm") == (3, 7)
    assert Counter(ops(modified))["ReduceMean"] == 1
    by_view = run_passes(exported("tsm", clips=6, depth=10, average="prob"), batch_size=3).model
    assert shape_of(by_view, "Gemm") == (18, 7)


# push-stride


def strided(model: ir.Model) -> ir.Model:
    return run_passes(model, passes=["push-stride", "dead-node-elimination"]).model


sizes = st.tuples(
    st.integers(5, 13), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)
)


@settings(max_examples=40, deadline=None)
@given(sizes=sizes, pool=st.sampled_from(["MaxPool", "AveragePool"]))
def test_any_strides_give_the_same_bits(sizes: tuple[int, int, int, int, int], pool: str) -> None:
    size, kernel, stride, step, pad = sizes
    text = f"""g (float[2,3,{size},8] x) => (float[2,4,h,v] y) {{
      c = Conv<kernel_shape = [{kernel},3], strides = [{stride},1], pads = [{pad},1,{pad},1]>(x, w)
      a = Relu(c)
      y = {pool}<kernel_shape = [1,2], strides = [{step},2]>(a) }}"""
    model = graph(text, w=noise(4, 3, kernel, 3))
    modified = strided(model)
    pooled = next(node for node in modified.graph if node.op_type == pool)
    assert list(pooled.attributes["strides"].as_ints()) == [1, 2]
    assert_same(model, modified, 2, 3, size, 8)


def test_a_pooling_that_only_drops_goes() -> None:
    text = """g (float[1,3,9,9] x) => (float[1,4,5,3] y) {
      c = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(x, w)
      y = MaxPool<kernel_shape = [1,1], strides = [2,3]>(c) }"""
    model = graph(text, w=noise(4, 3, 3, 3))
    modified = strided(model)
    assert ops(modified) == ["Conv"]
    assert_same(model, modified, 1, 3, 9, 9)


@pytest.mark.parametrize(
    ("conv", "pool"),
    [
        ("pads = [1,1,1,1]", "kernel_shape = [2,1], strides = [2,1]"),
        ("pads = [1,1,1,1]", "kernel_shape = [1,1], strides = [2,2], ceil_mode = 1"),
        ('auto_pad = "SAME_UPPER"', "kernel_shape = [1,1], strides = [2,2]"),
    ],
)
def test_other_poolings_stay(conv: str, pool: str) -> None:
    text = f"""g (float[1,3,8,8] x) => (float[1,4,h,v] y) {{
      c = Conv<kernel_shape = [3,3], {conv}>(x, w) y = MaxPool<{pool}>(c) }}"""
    model = graph(text, w=noise(4, 3, 3, 3))
    assert ops(strided(model)) == ["Conv", "MaxPool"]


def test_a_convolution_that_others_read_keeps_its_stride() -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,4,4] y, float[1,4,8,8] z) {
      c = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(x, w) z = Relu(c)
      y = MaxPool<kernel_shape = [1,1], strides = [2,2]>(c) }"""
    model = graph(text, w=noise(4, 3, 3, 3))
    assert ops(strided(model)) == ops(model)


@pytest.mark.parametrize("frames", [8, 9])
def test_i3d_computes_no_frames_that_its_first_pooling_drops(frames: int) -> None:
    original = torch_graph(I3D(depth=26, num_classes=5, base_channels=4), 1, 2, 3, frames, 32, 32)
    modified = run_passes(original, average_clips="keep").model
    stem = next(node for node in modified.graph if node.op_type == "Conv")
    assert list(stem.attributes["strides"].as_ints()) == [4, 2, 2]
    sample = noise(1, 2, 3, frames, 32, 32)
    np.testing.assert_array_equal(run(modified, sample)[0], run(original, sample)[0])
