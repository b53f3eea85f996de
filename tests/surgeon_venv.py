"""The real auto-optimizer for the tests: `.venv-surgeon`, made by the make target that a user types."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
OFFLINE = re.compile(
    r"connection broken by|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|Network is unreachable|"
    r"Temporary failure in name resolution|Could not fetch URL"
)


@cache
def _made() -> subprocess.CompletedProcess[str]:
    command = ["make", "surgeon", f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=500)


def surgeon_python() -> Path:
    """Return the interpreter of `.venv-surgeon`; the test is skipped where it cannot be made here."""
    interpreter = REPOSITORY / ".venv-surgeon" / "bin" / "python"
    if sys.version_info >= (3, 12) and not interpreter.exists():
        pytest.skip(
            "auto-optimizer needs a Python older than 3.12; make surgeon PYTHON=python3.11 uses another"
        )
    if sys.version_info < (3, 12):
        done = _made()
        if done.returncode and OFFLINE.search(done.stderr):
            pytest.skip("auto-optimizer is not installed and PyPI cannot be reached")
        assert done.returncode == 0, done.stdout + done.stderr
    return interpreter
