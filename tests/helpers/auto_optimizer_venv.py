"""The real auto-optimizer for the tests: `.venv-auto-optimizer`, created by the make target that a user runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OFFLINE = re.compile(
    r"connection broken by|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|Network is unreachable|"
    r"Temporary failure in name resolution|Could not fetch URL"
)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository as a user would, without the variables of a make that runs these tests."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKEFLAGS", "MFLAGS"))
    }
    return subprocess.run(
        ["make", *words],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@cache
def _made() -> subprocess.CompletedProcess[str]:
    return make("auto-optimizer", f"PYTHON={sys.executable}")


def auto_optimizer_python() -> Path:
    """Return the interpreter of `.venv-auto-optimizer`; skip the test where it cannot be created."""
    interpreter = REPOSITORY / ".venv-auto-optimizer" / "bin" / "python"
    if sys.version_info >= (3, 12) and not interpreter.exists():
        pytest.skip(
            "auto-optimizer needs a Python older than 3.12; use make auto-optimizer PYTHON=python3.11"
        )
    if sys.version_info < (3, 12):
        done = _made()
        if done.returncode and OFFLINE.search(done.stderr):
            pytest.skip("auto-optimizer is not installed and PyPI cannot be reached")
        assert done.returncode == 0, done.stdout + done.stderr
    return interpreter
