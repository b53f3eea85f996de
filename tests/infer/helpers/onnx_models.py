"""Small models whose answers numpy can work out, and files to feed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

WEIGHTS = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)


def save(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def linear(path: Path, batch: int | str) -> Path:
    """x (batch, 4) -> x @ WEIGHTS (batch, 3)."""
    weights = ",".join(repr(float(value)) for value in WEIGHTS.flat)
    return save(
        path,
        f"""<ir_version: 8, opset_import: ["" : 13]>
        linear (float[{batch},4] x) => (float[{batch},3] y) <float[4,3] W = {{{weights}}}>
        {{ y = MatMul (x, W) }}""",
    )


def two_outputs(path: Path, batch: int) -> Path:
    """x (batch, 4) -> twice = 2x (batch, 4), best = index of the largest (batch,) as int64."""
    return save(
        path,
        f"""<ir_version: 8, opset_import: ["" : 13]>
        two (float[{batch},4] x) => (float[{batch},4] twice, int64[{batch}] best)
        {{ twice = Add (x, x)
           best = ArgMax <axis = 1, keepdims = 0> (x) }}""",
    )


def two_inputs(path: Path, batch: int) -> Path:
    """a (batch, 4) float32, b (batch, 2) int32 -> a + sum(b) (batch, 4)."""
    return save(
        path,
        f"""<ir_version: 8, opset_import: ["" : 13]>
        pair (float[{batch},4] a, int32[{batch},2] b) => (float[{batch},4] y) <int64[1] axes = {{1}}>
        {{ s = ReduceSum (b, axes)
           f = Cast <to = 1> (s)
           y = Add (a, f) }}""",
    )


def write_rows(folder: Path, rows: np.ndarray, names: list[str] | None = None) -> Path:
    """One `.bin` file for each row."""
    folder.mkdir(parents=True)
    for number, row in enumerate(rows):
        name = names[number] if names else f"video_{number}.bin"
        (folder / name).write_bytes(np.ascontiguousarray(row).tobytes())
    return folder


def rows_of(count: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)
