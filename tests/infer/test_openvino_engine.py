from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import WEIGHTS, linear, rows_of, save, two_inputs, two_outputs

from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.base import ArrayEngine
from infer.engines.engine_options import OnnxRuntimeOptions, OpenVinoOptions
from infer.engines.open import open_engine
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.formats.recipe import load_recipe

openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")


def opened(path: Path, *, batch_size: int | None = None, **options: object) -> ArrayEngine:
    return open_engine(path, OpenVinoOptions(**options), batch_size=batch_size)


def test_it_tells_what_the_model_takes_and_gives(tmp_path: Path):
    engine = opened(two_outputs(tmp_path / "m.onnx", 3), threads=1)
    (x,) = engine.inputs
    assert (x.name, x.shape, x.dtype, engine.threads) == ("x", (3, 4), np.float32, 1)
    assert [(spec.name, spec.shape, spec.dtype) for spec in engine.outputs] == [
        ("twice", (3, 4), np.float32),
        ("best", (3,), np.int64),
    ]
    assert (engine.device, engine.facts) == ("CPU (OpenVINO, f32)", {"precision": "f32"})
    assert engine.version == openvino.__version__.split("-")[0]


def test_it_computes_what_numpy_computes(tmp_path: Path):
    rows = rows_of(5)
    engine = opened(linear(tmp_path / "m.onnx", 5))
    (y,) = engine.run([rows])
    np.testing.assert_allclose(y, rows @ WEIGHTS, rtol=1e-6, atol=1e-6)
    (swapped,) = engine.run([np.asfortranarray(rows)])
    np.testing.assert_allclose(swapped, y, rtol=1e-6)
    (copies,) = engine.run([np.broadcast_to(rows[:1], (5, 4))])  # which may not be written to
    np.testing.assert_allclose(copies, np.repeat(y[:1], 5, axis=0), rtol=1e-6)


def test_outputs_outlive_the_next_run(tmp_path: Path):
    engine = opened(two_outputs(tmp_path / "m.onnx", 2))
    first, _ = engine.run([np.eye(2, 4, dtype=np.float32)])
    engine.run([np.zeros((2, 4), np.float32)])
    np.testing.assert_array_equal(first, 2 * np.eye(2, 4))


def test_several_inputs_keep_their_order_and_dtypes(tmp_path: Path):
    a, b = rows_of(3), np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    (y,) = opened(two_inputs(tmp_path / "m.onnx", 3)).run([a, b])
    np.testing.assert_allclose(y, a + b.sum(axis=1, keepdims=True), rtol=1e-6)


def test_a_symbolic_batch_takes_the_size_given_and_needs_one(tmp_path: Path):
    path = linear(tmp_path / "m.onnx", "N")
    engine = opened(path, batch_size=6)
    assert engine.dynamic_batch and engine.inputs[0].shape == (6, 4) and engine.outputs[0].shape == (6, 3)
    np.testing.assert_allclose(engine.run([rows_of(6)])[0], rows_of(6) @ WEIGHTS, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="--dymBatch"):
        opened(path)
    fixed = opened(linear(tmp_path / "f.onnx", 2), batch_size=6)
    assert not fixed.dynamic_batch and fixed.inputs[0].rows == 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_network_gives_what_onnx_runtime_gives(
    dtype: str, dynamic: bool, tiny_recipe: Path, tmp_path: Path
):
    recipe = load_recipe(str(tiny_recipe))
    model = to_onnx(
        ToOnnxOptions(
            recipe=recipe,
            checkpoint="seeded:0",
            output=tmp_path / "m.onnx",
            batch_size=2,
            dynamic_batch=dynamic,
            input_dtype=dtype,
        )
    )
    pixels = np.random.default_rng(0).integers(0, 256, recipe.input_shape(2), dtype=np.uint8)
    sample = pixels if dtype == "uint8" else (pixels / np.float32(64) - 2).astype(np.float32)
    size = {"batch_size": 2} if dynamic else {}
    wanted, found = (
        open_engine(model, options, **size).run([sample])
        for options in (OnnxRuntimeOptions(), OpenVinoOptions())
    )
    assert wanted[0].std() > 1e-3
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=1e-5)


def test_arrays_of_another_shape_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="1×4"):
        opened(linear(tmp_path / "m.onnx", 2)).run([np.zeros((1, 4), np.float32)])


def test_what_is_no_model_is_bad_data(tmp_path: Path):
    whole = linear(tmp_path / "m.onnx", 2).read_bytes()
    contents = {"empty": b"", "text": b"not a model", "cut": whole[: len(whole) // 2]}
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(BadDataError, match=f"{name}.onnx"):
            opened(path)
    with pytest.raises(BadDataError, match="does not exist"):
        opened(tmp_path / "absent.onnx")
    (tmp_path / "m.om").write_bytes(b"IMOD")
    with pytest.raises(UnavailableError, match=r"NPU with ais_bench.*For OpenVINO give the \.onnx"):
        opened(tmp_path / "m.om")


def strange(path: Path) -> Path:
    return save(
        path,
        """<ir_version: 8, opset_import: ["" : 13, "other.domain" : 1]>
        f (float[2,4] x) => (float[2,4] y) { y = other.domain.Strange (x) }""",
    )


def text(path: Path) -> Path:
    return save(
        path,
        """<ir_version: 8, opset_import: ["" : 13]>
        f (string[2,4] x) => (string[2,4] y) { y = Identity (x) }""",
    )


@pytest.mark.parametrize(
    ("make", "words"), [(strange, "Strange.*--engine onnxruntime"), (text, "'x' of .* is a string")]
)
def test_what_openvino_does_not_read_is_bad_data(make: Callable[[Path], Path], words: str, tmp_path: Path):
    with pytest.raises(BadDataError, match=words):
        opened(make(tmp_path / "m.onnx"))


def test_a_batch_that_the_graph_does_not_bear_is_bad_data(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[N,4] x) => (float[3,8] y) <int64[2] shape = {3, 8}> { y = Reshape (x, shape) }""",
    )
    assert opened(path, batch_size=6).run([rows_of(6)])[0].shape == (3, 8)
    with pytest.raises(BadDataError, match=r"m\.onnx does not work with a batch of 5"):
        opened(path, batch_size=5)


def test_other_open_axes_are_refused_and_unknown_outputs_told(tmp_path: Path):
    path = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[2,T] x) => (float[2,T] y) { y = Relu (x) }""",
    )
    with pytest.raises(UsageError, match=r"'x'.*symbolic axis other than the batch"):
        opened(path)
    path = save(
        tmp_path / "n.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        f (float[2,4] x) => (int64[2,K] y) { y = NonZero (x) }""",
    )
    engine = opened(path)
    assert engine.outputs[0].shape == (2, -1)
    assert engine.run([np.eye(2, 4, dtype=np.float32)])[0].tolist() == [[0, 1], [0, 1]]


def test_initialisers_that_are_listed_as_inputs_are_none(tmp_path: Path):
    """As the older exporters of mmaction2's graphs write them."""
    model = onnx.load(linear(tmp_path / "m.onnx", 2))
    weights = model.graph.initializer[0]
    model.graph.input.append(
        onnx.helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims)
    )
    onnx.save(model, tmp_path / "listed.onnx")
    engine = opened(tmp_path / "listed.onnx")
    assert [spec.name for spec in engine.inputs] == ["x"]
    np.testing.assert_allclose(engine.run([rows_of(2)])[0], rows_of(2) @ WEIGHTS, rtol=1e-5, atol=1e-6)


def test_bf16_is_lacking_on_a_processor_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class OldCore(openvino.Core):
        def get_property(self, device: str, name: str) -> object:
            found = super().get_property(device, name)
            return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else found

    monkeypatch.setattr(openvino, "Core", OldCore)
    path = linear(tmp_path / "m.onnx", 2)
    with pytest.raises(UnavailableError, match=r"bfloat16 instructions.*FP32, INT8.*--precision f32"):
        opened(path, precision="bf16")
    assert opened(path).device == "CPU (OpenVINO, f32)"


def test_without_the_package_it_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match="make extras"):
        opened(linear(tmp_path / "m.onnx", 2))
