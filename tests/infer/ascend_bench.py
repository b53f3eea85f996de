"""A workplace whose ais_bench is the stand-in beside this file. No number in these tests is a measurement."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WIDTH, CLASSES = 4, 3
WEIGHTS = np.random.default_rng(3).normal(size=(WIDTH, CLASSES)).astype(np.float32)
_STANDIN = Path(__file__).with_name("standin_ais_bench.py")
# What pip would have left of packages that work together.
_INSTALLED = {"aclruntime": "0.0.2", "ais_bench": "0.0.2", "setuptools": "81.0.0", "numpy": "1.26.4"}


@dataclass
class Bench:
    """The working folder of a test, and how its stand-in behaves."""

    folder: Path
    packages: Path
    patch: pytest.MonkeyPatch

    def behave(self, mode: str, **variables: object) -> None:
        """From now on the stand-in fails in this way."""
        self.patch.setenv("STANDIN", mode)
        for name, value in variables.items():
            self.patch.setenv(f"STANDIN_{name.upper()}", str(value))

    def model(self, rows: int, name: str = "m.om") -> Path:
        """A stand-in for an offline model of this batch."""
        path = self.folder / name
        path.write_text(json.dumps({"rows": rows, "weights": WEIGHTS.tolist()}))
        return path

    def inputs(self, rows: np.ndarray, name: str = "in") -> Path:
        """A folder with one file for each row."""
        folder = self.folder / name
        folder.mkdir()
        for number, row in enumerate(rows):
            (folder / f"video_{number}.bin").write_bytes(np.ascontiguousarray(row).tobytes())
        return folder

    def npu_smi(self, table: Path) -> None:
        """npu-smi is a stand-in that prints a recorded table."""
        program = self.folder / "bin" / "npu-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n# stand-in\ncat '{table}'\n")
        program.chmod(0o755)
        self.patch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def facts(self, output: str = "out", name: str = "run") -> dict[str, Any]:
        """What was written beside the summary."""
        found: dict[str, Any] = json.loads((self.folder / output / f"{name}_vidom.json").read_text())
        return found


def set_up(folder: Path, patch: pytest.MonkeyPatch) -> Bench:
    packages = folder / "site"
    (packages / "ais_bench").mkdir(parents=True)
    shutil.copy(_STANDIN, packages / "ais_bench" / "__main__.py")
    (packages / "pkg_resources.py").write_text("# stand-in\n")
    for name, version in _INSTALLED.items():
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    patch.chdir(folder)
    patch.setenv("AIS_PYTHON", sys.executable)
    patch.setenv("PYTHONPATH", str(packages))
    patch.setenv("PATH", "/usr/bin:/bin")
    patch.delenv("STANDIN", raising=False)
    return Bench(folder, packages, patch)
