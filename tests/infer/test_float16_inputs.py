"""Models whose input is float16, which samples of float32 are rounded for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_stores import store
from evaluation_cases import run_evaluation, sum_model, write_list, write_recipe
from onnx_models import rows_of, save, write_rows
from run_infer import run_infer

from infer.batches.inputs import plan_batches
from infer.engines.onnxruntime import OnnxRuntimeEngine
from infer.engines.tensor_specs import TensorSpec
from infer.evaluation.record import read_rows
from vidom.errors import UsageError

ROWS = rows_of(5)
ROUNDED = ROWS.astype(np.float16).astype(np.float32)


def doubling(path: Path, batch: int) -> Path:
    """x (batch, 4) float16 -> 2x (batch, 4) float32."""
    return save(
        path,
        f"""<ir_version: 8, opset_import: ["" : 13]>
        twice (float16[{batch},4] x) => (float[{batch},4] y) {{ f = Cast <to = 1> (x) y = Add (f, f) }}""",
    )


def outputs(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted((folder / "out").glob("*.npy"))])


def infer_files(tmp_path: Path, files: Path) -> np.ndarray:
    model = doubling(tmp_path / "m.onnx", 2)
    run_infer(model=model, input=str(files), output=tmp_path / "res", output_dirname="out", outfmt="NPY")
    return outputs(tmp_path / "res")


def test_a_store_of_float32(tmp_path: Path):
    assert not np.array_equal(ROWS, ROUNDED)
    np.testing.assert_array_equal(infer_files(tmp_path, store(tmp_path / "s", ROWS)), 2 * ROUNDED)


def test_npy_files_of_float32(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for number, row in enumerate(ROWS):
        np.save(tmp_path / "in" / f"{number}.npy", row[None])
    np.testing.assert_array_equal(infer_files(tmp_path, tmp_path / "in"), 2 * ROUNDED)


def test_files_that_state_no_dtype_hold_float16_as_for_ais_bench(tmp_path: Path):
    files = write_rows(tmp_path / "in", ROWS.astype(np.float16))
    np.testing.assert_array_equal(infer_files(tmp_path, files), 2 * ROUNDED)


def test_a_store_of_bytes_names_what_can_be_packed(tmp_path: Path):
    clips = store(tmp_path / "s", np.zeros((2, 4), np.uint8))
    with pytest.raises(UsageError, match=r"--input_dtype uint8, or pack with --dtype float32") as caught:
        infer_files(tmp_path, clips)
    assert "--dtype float16" not in str(caught.value)
    with pytest.raises(UsageError, match=r"--input_dtype uint8\.$"):
        plan_batches(str(clips), [TensorSpec("x", (1, 4), np.dtype("float64"))])


@pytest.mark.parametrize("dtype", [np.float64, np.int16])
def test_other_types_are_not_converted(dtype: type, tmp_path: Path):
    engine = OnnxRuntimeEngine(doubling(tmp_path / "m.onnx", 5))
    np.testing.assert_array_equal(engine.run([ROWS])[0], 2 * ROUNDED)
    with pytest.raises(UsageError, match="takes float16"):
        engine.run([ROWS.astype(dtype)])


def test_evaluation_makes_float32_samples_for_it(tmp_path: Path):
    write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 3)
    scores = []
    for dtype in ("float16", "float32"):  # its pixels, 0 to 255, are the same in both
        run_evaluation(tmp_path / dtype, sum_model(tmp_path / f"{dtype}.onnx", 2, dtype=dtype), annotations)
        scores.append([row.scores for row in read_rows(tmp_path / dtype / "record.jsonl")])
    np.testing.assert_array_equal(*scores)
