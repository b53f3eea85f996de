"""Where the tests find their truths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("VIDOM_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The small numeric truths that are committed."""
    return REPOSITORY / "tests" / "fixtures"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, frames and large truths; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real videos and frames of {SHARED}, which are not here")
    return SHARED
