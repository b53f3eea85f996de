"""Runs as an engine leaves them, written byte by byte from the vendor's description of the formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

Rows = Mapping[str, np.ndarray]
WriteRun = Callable[..., Path]


def encode(rows: np.ndarray, outfmt: str) -> bytes:
    if outfmt == "TXT":
        return "".join("".join(f"{value:f} " for value in row) + "\n" for row in rows).encode()
    return rows.astype("<f4").tobytes()


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    def write(
        rows: Rows, *, outfmt: str = "NPY", name: str = "out", inputs: str = "./bins", suffix: str = "bin"
    ) -> Path:
        """Return the summary of a run whose inputs `STEM.bin` gave these rows, in this order."""
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        info = {}
        for number, (stem, values) in enumerate(rows.items()):
            path = folder / f"{stem}_0.{outfmt.lower()}"
            if outfmt == "NPY":
                np.save(path, values)
            else:
                path.write_bytes(encode(values, outfmt))
            info[str(number)] = {
                "infiles": [f"{inputs}/{stem}.{suffix}"],
                "outfiles": [f"./inference_result/{name}/{path.name}"],
            }
        summary = folder.with_name(f"{name}_summary.json")
        summary.write_text(json.dumps({"filesinfo": info, "args": [], "throughput": 1.0, "pid": 1}))
        return summary

    return write


@pytest.fixture
def write_info(tmp_path: Path) -> Callable[[Mapping[int, int]], Path]:
    def write(labels: Mapping[int, int]) -> Path:
        path = tmp_path / "sthv2.info"
        path.write_text("".join(f"{index} {label}\n" for index, label in labels.items()))
        return path

    return write
