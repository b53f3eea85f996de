"""A machine with onnxruntime-cann in an interpreter of its own; both are stubs, no NPU and no CANN are behind them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from stub_programs import program
from yaml import _yaml

STUB = Path(__file__).parents[1] / "fixtures" / "onnxruntime_cann"
LIBRARIES = ("libascendcl.so", "libacl_op_compiler.so", "libfmk_onnx_parser.so")


def set_up_cann(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let CANN_PYTHON name an interpreter with the stub, and have its log written to the path that is returned."""
    (folder / "lib").mkdir()
    for name in LIBRARIES:
        # Any library that can be loaded.
        shutil.copy(_yaml.__file__, folder / "lib" / name)
    python = program(
        folder / "python-cann",
        f'PYTHONPATH={STUB} LD_LIBRARY_PATH={folder / "lib"} exec {sys.executable} "$@"',
    )
    monkeypatch.setenv("CANN_PYTHON", str(python))
    monkeypatch.setenv("STUB_CANN_LOG", str(folder / "stub.log"))
    return folder / "stub.log"
