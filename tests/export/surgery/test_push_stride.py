"""The pass push-stride."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_graphs import assert_same, graph, noise, ops, run, torch_graph

from export.surgery.pass_manager import run_passes
from networks.i3d import I3D


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


def test_a_pooling_that_only_drops_is_removed() -> None:
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


def test_a_convolution_with_further_users_keeps_its_stride() -> None:
    text = """g (float[1,3,8,8] x) => (float[1,4,4,4] y, float[1,4,8,8] z) {
      c = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(x, w) z = Relu(c)
      y = MaxPool<kernel_shape = [1,1], strides = [2,2]>(c) }"""
    model = graph(text, w=noise(4, 3, 3, 3))
    assert ops(strided(model)) == ops(model)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [8, 9])
def test_i3d_computes_no_frames_that_its_first_pooling_drops(frames: int) -> None:
    original = torch_graph(I3D(depth=26, num_classes=5, base_channels=4), 1, 2, 3, frames, 32, 32)
    modified = run_passes(original, average_clips="keep").model
    stem = next(node for node in modified.graph if node.op_type == "Conv")
    assert list(stem.attributes["strides"].as_ints()) == [4, 2, 2]
    sample = noise(1, 2, 3, frames, 32, 32)
    np.testing.assert_array_equal(run(modified, sample)[0], run(original, sample)[0])
