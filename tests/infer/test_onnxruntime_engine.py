from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import WEIGHTS, linear, rows_of, save, two_outputs

from infer.engines.engine_options import OnnxRuntimeOptions
from infer.engines.onnxruntime import OnnxRuntimeEngine
from vidom.errors import BadDataError, UnavailableError, UsageError


def test_it_tells_what_the_model_takes_and_gives(tmp_path: Path):
    engine = OnnxRuntimeEngine(two_outputs(tmp_path / "m.onnx", 3))
    (x,) = engine.inputs
    assert (x.name, x.shape, x.dtype, x.nbytes, x.rows) == ("x", (3, 4), np.float32, 48, 3)
    assert [(spec.name, spec.shape, spec.dtype) for spec in engine.outputs] == [
        ("twice", (3, 4), np.float32),
        ("best", (3,), np.int64),
    ]


def test_it_computes_what_numpy_computes(tmp_path: Path):
    rows = rows_of(5)
    (y,) = OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 5), OnnxRuntimeOptions(threads=1)).run([rows])
    np.testing.assert_allclose(y, rows @ WEIGHTS, rtol=1e-6, atol=1e-6)
    (swapped,) = OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 5)).run([np.asfortranarray(rows)])
    np.testing.assert_allclose(swapped, y, rtol=1e-6)


def test_a_symbolic_batch_takes_the_size_given_and_needs_one(tmp_path: Path):
    path = linear(tmp_path / "m.onnx", "N")
    engine = OnnxRuntimeEngine(path, batch_size=6)
    assert engine.dynamic_batch and engine.inputs[0].shape == (6, 4) and engine.outputs[0].shape == (6, 3)
    assert engine.run([rows_of(6)])[0].shape == (6, 3)
    with pytest.raises(UsageError, match="--dymBatch"):
        OnnxRuntimeEngine(path)


def test_a_fixed_batch_does_not_look_at_the_size(tmp_path: Path):
    engine = OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 2), batch_size=6)
    assert not engine.dynamic_batch and engine.inputs[0].rows == 2


def test_another_symbolic_axis_is_refused(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[2,T] x) => (float[2,T] y) { y = Relu (x) }""",
    )
    with pytest.raises(UsageError, match=r"'x'.*symbolic axis other than the batch"):
        OnnxRuntimeEngine(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4)), "float64"),
        (np.zeros((1, 4), np.float32), "1×4"),
        (np.zeros((2, 4), np.uint8), "uint8"),
    ],
)
def test_arrays_of_another_dtype_or_shape_are_refused(array: np.ndarray, words: str, tmp_path: Path):
    with pytest.raises(UsageError, match=words):
        OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 2)).run([array])


def test_what_is_no_model_is_bad_data(tmp_path: Path):
    whole = linear(tmp_path / "m.onnx", 2).read_bytes()
    contents = {"empty": b"", "text": b"not a model", "cut": whole[: len(whole) // 2]}
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(BadDataError, match=f"{name}.onnx"):
            OnnxRuntimeEngine(path)
    with pytest.raises(BadDataError, match="does not exist"):
        OnnxRuntimeEngine(tmp_path / "absent.onnx")


def test_an_offline_model_needs_an_npu_and_ais_bench(tmp_path: Path):
    (tmp_path / "m.om").write_bytes(b"IMOD")
    with pytest.raises(UnavailableError, match=r"NPU with ais_bench.*\.onnx"):
        OnnxRuntimeEngine(tmp_path / "m.om")


def test_a_model_that_fails_on_its_input_is_bad_data(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[N,4] x) => (float[3,8] y) <int64[2] shape = {3, 8}> { y = Reshape (x, shape) }""",
    )
    assert OnnxRuntimeEngine(path, batch_size=6).run([rows_of(6)])[0].shape == (3, 8)
    with pytest.raises(BadDataError, match=r"fails while it runs .*m\.onnx"):
        OnnxRuntimeEngine(path, batch_size=5).run([rows_of(5)])


def test_refused_memory_is_not_the_fault_of_the_model(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[1,4] x) => (float[N,M] y) <int64[2] shape = {16777216, 8388608}>
        { s = ReduceSum <keepdims = 1> (x)
          y = Expand (s, shape) }""",
    )
    with pytest.raises(MemoryError, match="allocate memory for requested buffer of size 562949953421312"):
        OnnxRuntimeEngine(path).run([rows_of(1)])


def test_what_only_a_run_can_tell_is_said_to_be_unknown(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[2,4] x) => (int64[2,K] y) { y = NonZero (x) }""",
    )
    engine = OnnxRuntimeEngine(path)
    assert (engine.outputs[0].shape, engine.outputs[0].nbytes) == ((2, -1), 0)
    assert engine.run([np.eye(2, 4, dtype=np.float32)])[0].tolist() == [[0, 1], [0, 1]]
