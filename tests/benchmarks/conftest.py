from __future__ import annotations

from pathlib import Path

import pytest
from ascend_bench import Bench, set_up


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A working folder whose ais_bench is a stub."""
    return set_up(tmp_path, monkeypatch)
