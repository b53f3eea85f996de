"""Small clip stores, and the rows that an engine gives for their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from engine_runs import CLASSES, N

from vidom.formats.clip_store import ClipFile, Packed, Sample, Skipped, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter


def pack(folder: Path, labels: Mapping[int, int], *, per_file: int, skip: int | None = None) -> Path:
    header = StoreHeader(
        recipe="r", recipe_sha256="0", list_sha256="0", dtype="uint8", shape=(1,), layout="NCTHW",
        normalised=False, samples_per_file=per_file, decoder="cv2",
    )  # fmt: skip
    writer = ClipStoreWriter(folder, header)
    indices = sorted(labels)
    for start in range(0, len(indices), per_file):
        group = indices[start : start + per_file]
        good = [index for index in group if index != skip]
        name = writer.file_name(start)
        (folder / "clips" / name).write_bytes(bytes(per_file))
        writer.add(
            Packed(
                (ClipFile(name, per_file, 0, tuple(good), per_file - len(good)),),
                tuple(Sample(index, f"video{index}", labels[index], "", ()) for index in good),
                tuple(Skipped(index, f"video{index}", "", "no frames") for index in group if index == skip),
            )
        )
    writer.finish([f"class {index}" for index in range(CLASSES)], "sthv2.info")
    return folder


def run_store(values: np.ndarray, per_file: int, skip: int | None) -> dict[str, np.ndarray]:
    """Return an engine's rows for the files of `pack`: a skipped sample has none, the first one is the padding."""
    rows = {}
    for k in range(-(-N // per_file)):
        group = [index for index in range(k * per_file, min((k + 1) * per_file, N)) if index != skip]
        rows[f"{k:06d}"] = values[(group + group[:1] * per_file)[:per_file]]
    return rows


def pack_views(folder: Path, labels: Mapping[int, int], *, views: int, average_clips: str) -> Path:
    """Write a store with a file for each view of each sample, `000012v03.bin`."""
    header = StoreHeader(
        recipe="r", recipe_sha256="0", list_sha256="0", dtype="uint8", shape=(1,), layout="NCTHW",
        normalised=False, samples_per_file=1, decoder="cv2", views_per_sample=views, average_clips=average_clips,
    )  # fmt: skip
    writer = ClipStoreWriter(folder, header)
    for index in sorted(labels):
        names = [f"{index:06d}v{view:02d}.bin" for view in range(views)]
        for name in names:
            (folder / "clips" / name).write_bytes(b"x")
        files = tuple(ClipFile(name, 1, 0, (index,), 0, view) for view, name in enumerate(names))
        writer.add(Packed(files, (Sample(index, f"video{index}", labels[index], "", ()),), ()))
    writer.finish([f"class {index}" for index in range(CLASSES)], "sthv2.info")
    return folder
