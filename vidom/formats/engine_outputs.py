"""The files an engine leaves behind, in the layout and formats of ais_bench, reader next to writer.

    {output}/{output_dirname}/{stem}_{k}.{npy|bin|txt}      k counts the model's outputs
    {output}/{output_dirname}_summary.json                  a sibling of the folder

Source: ais_bench 0.0.2, `infer/utils.py` and `infer/summary.py`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vidom.bounded_reading import read_bytes, read_json
from vidom.errors import BadDataError
from vidom.files import write_text
from vidom.formats.clip_store_records import texts
from vidom.formats.npy import decode_npy
from vidom.wording import shown

__all__ = [
    "OUTPUT_FORMATS",
    "OutputFormat",
    "ResultFile",
    "encode_output",
    "output_stem",
    "read_output",
    "read_summary",
    "summary_path",
    "time_statistics",
    "write_summary",
]

OutputFormat = Literal["BIN", "NPY", "TXT"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = ("BIN", "NPY", "TXT")
Array = npt.NDArray[Any]
MAX_OUTPUT_BYTES = 1 << 26
# A row of a hundred thousand classes; its words take fifty times as many bytes while they become numbers.
_MAX_LINE_BYTES = 1 << 20
# Limits of Linux, in bytes.
_MAX_NAME, _MAX_PATH = 255, 4095


@dataclass(frozen=True)
class ResultFile:
    """One entry of a summary's `filesinfo`: the input files of one sample and the output files it gave."""

    key: str
    infiles: tuple[str, ...]
    outfiles: tuple[str, ...]


def output_stem(infile: str | Path) -> str:
    """Return the part of the file's name before its first dot, which is all ais_bench keeps of it."""
    return str(infile).rstrip("/").rpartition("/")[2].partition(".")[0]


def summary_path(output: Path, output_dirname: str) -> Path:
    """Return the path of the summary of a run: next to its folder, not in it."""
    return output / f"{output_dirname}_summary.json"


def encode_output(array: Array, outfmt: OutputFormat) -> bytes:
    """Return the bytes ais_bench writes for one output.

    BIN: raw little-endian. NPY: `numpy.save`, batch axis kept. TXT: one line per row of the last axis, each
    value with `%f` (floats) or `%d` (integers, booleans) and one space, so every line ends in a space.
    """
    if outfmt == "BIN":
        return np.ascontiguousarray(array).tobytes()
    if outfmt == "NPY":
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    pattern = "%f " if np.issubdtype(array.dtype, np.floating) else "%d "
    return "".join((pattern * row.size) % tuple(row.tolist()) + "\n" for row in rows).encode()


def read_output(path: Path | str, *, classes: int | None = None) -> Array:
    """Return an output file's rows as an array of shape (rows, classes).

    The format follows the file's suffix. A `.bin` carries no shape: it is read as float32 and needs
    `classes`. Raises BadDataError when the file is absent, empty, ragged or not a multiple of a row.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise BadDataError(f"The output file {path} must end in .npy, .bin or .txt.")
    content = read_bytes(path, what="output file", max_bytes=MAX_OUTPUT_BYTES)
    try:
        rows = read(content, classes)
    except ValueError as error:
        raise BadDataError(
            f"The output file {path} cannot be read ({shown(error)}). It may be truncated."
        ) from None
    if rows.size == 0:
        raise BadDataError(f"The output file {path} is empty.")
    return rows


def _read_npy(content: bytes, _classes: int | None) -> Array:
    array = decode_npy(content)
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _read_bin(content: bytes, classes: int | None) -> Array:
    if classes is None:
        raise ValueError("a .bin file has no shape, so the class count must be given")
    return np.frombuffer(content, dtype="<f4").reshape(-1, classes)


def _read_txt(content: bytes, _classes: int | None) -> Array:
    blocks, stream = [np.empty((0, 0))], io.BytesIO(content)
    # Some lines at a time, since all words of a large file would fill the memory.
    while lines := stream.readlines(_MAX_LINE_BYTES):
        if max(map(len, lines)) > _MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {_MAX_LINE_BYTES} bytes")
        if rows := [line.split() for line in lines if line.strip()]:
            blocks.append(np.array(rows, dtype=np.float64))
    return np.concatenate(blocks[1:] or blocks)


_READERS = {".npy": _read_npy, ".bin": _read_bin, ".txt": _read_txt}


def time_statistics(milliseconds: Sequence[float]) -> dict[str, float | int]:
    """Return ais_bench's statistics of a list of times in ms: min, max, mean, median, 99th percentile, count."""
    times = np.asarray(milliseconds, dtype=np.float64)
    return {
        "min": float(times.min()),
        "max": float(times.max()),
        "mean": float(times.mean()),
        "median": float(np.median(times)),
        "percentile(99%)": float(np.percentile(times, 99)),
        "count": int(times.size),
    }


def write_summary(
    path: Path,
    *,
    files: Sequence[ResultFile],
    args: Sequence[str],
    compute_ms: Sequence[float],
    h2d_ms: Sequence[float],
    d2h_ms: Sequence[float],
    batch_size: int,
    pid: int,
    extra: Mapping[str, Any],
) -> None:
    """Write the summary to `path` as ais_bench does, on one line, with vidom's keys under `vidom`.

    `throughput` is 1000 * batch_size / mean(compute_ms) samples per second; as in ais_bench it counts the
    padding of the last batch as samples.
    """
    compute = time_statistics(compute_ms)
    document = {
        "filesinfo": {
            entry.key: {"infiles": list(entry.infiles), "outfiles": list(entry.outfiles)} for entry in files
        },
        "args": list(args),
        "NPU_compute_time": compute,
        "H2D_latency": time_statistics(h2d_ms),
        "D2H_latency": time_statistics(d2h_ms),
        "npu_compute_time_list": list(compute_ms),
        "throughput": 1000 * batch_size / compute["mean"],
        "pid": pid,
        "vidom": dict(extra),
    }
    write_text(path, json.dumps(document))


def read_summary(path: Path | str) -> tuple[tuple[ResultFile, ...], dict[str, Any]]:
    """Return the entries of a summary's `filesinfo` in input order, and the complete document.

    Raises BadDataError when the summary is absent (the run did not finish), damaged or names no files.
    """
    document = read_json(path, what="result summary")
    try:
        entries = tuple(
            ResultFile(key, _paths(entry["infiles"]), _paths(entry["outfiles"]))
            for key, entry in sorted(document["filesinfo"].items(), key=lambda item: int(item[0]))
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadDataError(
            f"{path} is not a summary as ais_bench writes it: its `filesinfo` cannot be read ({shown(repr(error))})."
        ) from None
    if not entries:
        raise BadDataError(
            f"The summary {path} names no files. ais_bench leaves `filesinfo` empty in pipeline mode; run it "
            "without --pipeline."
        )
    return entries, document


def _paths(document: Any) -> tuple[str, ...]:
    """Return a list of paths such as a file can have. Raises TypeError or ValueError for anything else."""
    for path in (paths := texts(document)):
        if len(path) <= _MAX_NAME and path.isascii() and "\0" not in path:
            continue
        encoded = os.fsencode(path)
        longest = max(map(len, encoded.split(b"/")))
        if b"\0" in encoded or len(encoded) > _MAX_PATH or longest > _MAX_NAME:
            raise ValueError(f"{shown(path)} is no path")
    return paths
