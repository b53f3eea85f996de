"""The naive graph has mmaction2's operators and the rows of our export; shares of node times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.inference.naive_graph import naive_graph
from benchmarks.measuring.node_time import node_seconds, non_convolution_share
from export.to_onnx import ToOnnxOptions, to_onnx
from vidom.formats.recipe import load_recipe

MOVES = ("Slice", "Sub", "Concat", "Conv", "Relu", "Add", "MaxPool", "Gemm")


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def rows(path: Path, samples: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"clips": samples})[0])


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_rows_are_those_of_our_export(batch: int, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny_recipe))
    naive = naive_graph(recipe=recipe, output=tmp_path / "naive.onnx", batch_size=batch)
    ours = to_onnx(
        ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "ours.onnx", batch_size=batch)
    )
    samples = np.random.default_rng(0).standard_normal(recipe.input_shape(batch), dtype=np.float32)
    np.testing.assert_allclose(rows(naive, samples), rows(ours, samples), rtol=0, atol=1e-6)
    assert operators(naive)["Sub"] == 2 * operators(ours)["Concat"]


@pytest.mark.slow
def test_operators_are_those_that_mmaction2_exported(fixtures: Path, tmp_path: Path) -> None:
    recipe = load_recipe("tsm_sthv2", ["views.crop_size=32", "views.short_side=32"])
    ours = operators(naive_graph(recipe=recipe, output=tmp_path / "naive.onnx"))
    theirs = operators(fixtures / "onnx_skeletons" / "tsm_sthv2_bs1_torch1.9_sim.skeleton.onnx")
    assert {name: ours[name] for name in MOVES} == {name: theirs[name] for name in MOVES}


@pytest.mark.slow
def test_the_share_is_that_of_all_operators_except_convolutions(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny_recipe))
    model = naive_graph(recipe=recipe, output=tmp_path / "naive.onnx")
    sample = {"clips": np.zeros(recipe.input_shape(1), dtype=np.float32)}
    seconds = node_seconds(model, sample, 1)
    assert {"Conv", "MaxPool", "Slice", "Sub"} <= seconds.keys()
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    assert 0 < non_convolution_share(model, sample, 1) < 1


def test_a_graph_without_convolutions_has_a_share_of_one(tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    text = (
        """<ir_version: 6, opset_import: ["" : 11]> g (float[64,64] x) => (float[64,64] y) { y = Relu(x) }"""
    )
    onnx.save(onnx.parser.parse_model(text), path)
    assert non_convolution_share(path, {"x": np.zeros((64, 64), dtype=np.float32)}, 1) == 1
