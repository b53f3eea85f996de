"""Runs of an engine, written byte by byte from the vendor's description of the formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, N, WriteInfo, WriteRun


@pytest.fixture(scope="session")
def probabilities() -> np.ndarray:
    rng = np.random.default_rng(7)
    exp = np.exp(rng.normal(size=(N, CLASSES)))
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def truth(probabilities: np.ndarray) -> dict[int, int]:
    """Labels of which 13 are the best class of their sample and 4 the second best."""
    order = np.argsort(-probabilities, axis=1)
    ranks = [0] * 13 + [1] * 4 + [6] * 5
    return {index: int(order[index, rank]) for index, rank in enumerate(ranks)}


def encode(rows: np.ndarray, outfmt: str) -> bytes:
    if outfmt == "TXT":
        return "".join("".join(f"{value:f} " for value in row) + "\n" for row in rows).encode()
    return rows.astype("<f4").tobytes()


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    def write(
        rows: Mapping[str, np.ndarray], *, outfmt: str = "NPY", name: str = "out", inputs: str = "./bins"
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
                "infiles": [f"{inputs}/{stem}.bin"],
                "outfiles": [f"./inference_result/{name}/{path.name}"],
            }
        summary = folder.with_name(f"{name}_summary.json")
        summary.write_text(json.dumps({"filesinfo": info, "args": [], "throughput": 1.0, "pid": 1}))
        return summary

    return write


@pytest.fixture
def write_info(tmp_path: Path) -> WriteInfo:
    def write(labels: Mapping[int, int]) -> Path:
        path = tmp_path / "sthv2.info"
        path.write_text("".join(f"{index} {label}\n" for index, label in labels.items()))
        return path

    return write
