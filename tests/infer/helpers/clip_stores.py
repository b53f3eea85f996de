"""Clip stores of given samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidom.files import crc32_file
from vidom.formats.clip_store import ClipFile, Packed, Sample, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter


def store(folder: Path, samples: np.ndarray, *, per_file: int = 1, finish: bool = True) -> Path:
    """A clip store of so many samples a file, the last file filled up; return its `clips` folder."""
    header = StoreHeader(
        recipe="r", recipe_sha256="0", list_sha256="0", dtype=str(samples.dtype), shape=samples.shape[1:],
        layout="NCHW", normalised=True, samples_per_file=per_file, decoder="none",
    )  # fmt: skip
    writer = ClipStoreWriter(folder, header)
    for start in range(0, len(samples), per_file):
        rows = samples[start : start + per_file]
        padding = per_file - len(rows)
        path = writer.clips / writer.file_name(start)
        path.write_bytes(np.concatenate([rows, *[rows[:1]] * padding]).tobytes())
        indices = tuple(range(start, start + len(rows)))
        clip_file = ClipFile(path.name, path.stat().st_size, crc32_file(path), indices, padding)
        packed = tuple(Sample(index, f"v{index}", 0, "", ()) for index in indices)
        writer.add(Packed((clip_file,), packed, ()))
    if finish:
        writer.finish(["a"], "r.info")
    return writer.clips
