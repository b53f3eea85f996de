from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The stand-in for ais_bench belongs to the tests of the room that runs it.
sys.path.append(str(Path(__file__).parents[1] / "infer"))
from ascend_bench import Bench, set_up


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A working folder whose ais_bench is a stand-in."""
    return set_up(tmp_path, monkeypatch)
