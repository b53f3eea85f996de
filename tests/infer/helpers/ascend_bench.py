"""A working folder whose ais_bench is the stub next to this file. No number in these tests is a measurement."""

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
_STUB = Path(__file__).with_name("stub_ais_bench.py")
# What pip would have left of packages that work together.
_INSTALLED = {"aclruntime": "0.0.2", "ais_bench": "0.0.2", "numpy": "1.26.4"}
_PKG_RESOURCES = """
class get_distribution:
    def __init__(self, name):
        self.version = "0.0.2"
"""


@dataclass
class Bench:
    """The working folder of a test, and how its stub behaves."""

    folder: Path
    packages: Path
    patch: pytest.MonkeyPatch

    def behave(self, mode: str, **variables: object) -> None:
        """Make the stub fail in this way from now on."""
        self.patch.setenv("STUB", mode)
        for name, value in variables.items():
            self.patch.setenv(f"STUB_{name.upper()}", str(value))

    def play(self, version: str) -> None:
        """Make the stub the program of this name from now on, see its docstring."""
        self.patch.setenv("STUB_VERSION", version)

    def without_pkg_resources(self) -> None:
        """Hide pkg_resources, also that of the interpreter, as setuptools 82 does."""
        (self.packages / "pkg_resources.py").write_text("raise ModuleNotFoundError(__name__)\n")

    def model(self, rows: int, name: str = "m.om") -> Path:
        """Write a stub of an offline model of this batch."""
        path = self.folder / name
        path.write_text(json.dumps({"rows": rows, "weights": WEIGHTS.tolist()}))
        return path

    def inputs(self, rows: np.ndarray, name: str = "in") -> Path:
        """Write a folder with one file for each row."""
        folder = self.folder / name
        folder.mkdir()
        for number, row in enumerate(rows):
            (folder / f"video_{number}.bin").write_bytes(np.ascontiguousarray(row).tobytes())
        return folder

    def npu_smi(self, table: Path) -> None:
        """Install a stub of npu-smi that prints a recorded table."""
        program = self.folder / "bin" / "npu-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n# stub\ncat '{table}'\n")
        program.chmod(0o755)
        self.patch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def facts(self, output: str = "out", name: str = "run") -> dict[str, Any]:
        """Return the facts written next to the summary."""
        found: dict[str, Any] = json.loads((self.folder / output / f"{name}_vidom.json").read_text())
        return found


def set_up(folder: Path, patch: pytest.MonkeyPatch) -> Bench:
    packages = folder / "site"
    (packages / "ais_bench" / "infer").mkdir(parents=True)
    for name in ("__main__.py", "infer/miscellaneous.py"):
        shutil.copy(_STUB, packages / "ais_bench" / name)
    (packages / "pkg_resources.py").write_text(_PKG_RESOURCES)
    for name, version in _INSTALLED.items():
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    patch.chdir(folder)
    patch.setenv("AIS_PYTHON", sys.executable)
    patch.setenv("PYTHONPATH", str(packages))
    patch.setenv("PATH", "/usr/bin:/bin")
    for name in ("STUB", "STUB_VERSION"):
        patch.delenv(name, raising=False)
    return Bench(folder, packages, patch)
