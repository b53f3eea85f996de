"""Sizes of inputs that a graph leaves open."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from surgery_graphs import END, graph, integers, noise, ops, run, shift_graph

from export.modify_onnx import ModifyOnnxOptions, main, modify_onnx
from export.surgery.input_sizes import parse_input_sizes
from export.surgery.model_file import load_model
from vidom.errors import UsageError

DIMS = {"views": 3, "segments": 4, "channels": 8, "classes": 5}
SIZES = "x:1,12,8,4"


def test_the_spelling_of_atc() -> None:
    assert parse_input_sizes("clips:1,8,3,224,224") == (("clips", (1, 8, 3, 224, 224)),)
    assert parse_input_sizes("a:-1,2;input:0:3") == (("a", (-1, 2)), ("input:0", (3,)))
    for wrong in (
        "",
        "clips",
        "1,2",
        ":1",
        "x:",
        "x:1,",
        "x:0",
        "x:-2",
        "x:1x2",
        "x:²",
        "x:1;x:2",
        f"x:{9**20}",
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_input_sizes(wrong)


@pytest.fixture(params=["symbols", "minus one"])
def open_model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the path of a network with shifts that states no size of its input, in one of two spellings."""
    proto = ir.to_proto(shift_graph(batch=1, **DIMS))
    shape = proto.graph.input[0].type.tensor_type.shape
    for axis, dim in enumerate(shape.dim):
        if request.param == "symbols":
            dim.dim_param = f"size_{axis}"
        else:
            dim.dim_value = -1
    del proto.graph.value_info[:]
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.dim_param = "rows"
    path = tmp_path / "open.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_graph_with_open_sizes_is_optimized_like_one_with_these_sizes(
    batch_size: int, open_model: Path, tmp_path: Path
) -> None:
    output, expected = tmp_path / "new.onnx", tmp_path / "expected.onnx"
    command = ["-m1", str(open_model), "-m2", str(output), "-bs", str(batch_size), "--input_shape", SIZES]
    assert main(command) == 0
    fixed = shift_graph(batch=1, **DIMS)
    ir.save(fixed, tmp_path / "fixed.onnx")
    modify_onnx(ModifyOnnxOptions(model=tmp_path / "fixed.onnx", output=expected, batch_size=batch_size))
    assert ops(load_model(output)) == ops(load_model(expected))
    found = load_model(output).graph.inputs[0].shape
    assert found is not None and found.numpy() == (batch_size, 12, 8, 4)
    sample = noise(batch_size, 12, 8, 4)
    np.testing.assert_array_equal(run(load_model(output), sample)[0], run(load_model(expected), sample)[0])


def test_without_it_the_option_is_named(open_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--input_shape x:"):
        main(["-m1", str(open_model), "-m2", str(tmp_path / "new.onnx"), "-bs", "1"])


def test_sizes_left_open_stay_so(tmp_path: Path) -> None:
    model = graph("g (float[n,t] x) => (float[n,t] y) { y = Relu(x) }")
    ir.save(model, tmp_path / "m.onnx")
    output = tmp_path / "new.onnx"
    assert main(["-m1", str(tmp_path / "m.onnx"), "-m2", str(output), "--input_shape", "x:-1,4"]) == 0
    first, second = load_model(output).graph.inputs[0].shape or ()
    assert (isinstance(first, ir.SymbolicDim), second) == (True, 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [("z:2,3", "the graph has x"), ("x:2,4", "graph states"), ("x:2,3,1", "graph states"), ("x:1,3", "-bs")],
)
def test_sizes_that_contradict_the_graph(given: str, words: str, tmp_path: Path) -> None:
    model = graph("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=words):
        main(["-m1", str(tmp_path / "m.onnx"), "-m2", str(tmp_path / "new.onnx"), "--input_shape", given])


def test_a_weight_is_no_input(tmp_path: Path) -> None:
    text = "g (float[n,3] x, float[3] w) => (float[n,2] y) { z = Add(x, w) y = Slice(z, one, end, one) }"
    ir.save(graph(text, w=noise(3), one=integers(1), end=integers(END)), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="the graph has x"):
        main(["-m1", str(tmp_path / "m.onnx"), "-m2", str(tmp_path / "new.onnx"), "--input_shape", "w:3"])
