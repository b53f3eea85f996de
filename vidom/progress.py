"""Progress that a person watching a terminal sees and a log file does not."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["progress"]


def progress(*, total: int, unit: str, label: str, done: int = 0) -> tqdm[Any]:
    """Return a bar on stderr with total, rate and ETA, counting from `done`; silent where stderr is a file."""
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=label,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        file=sys.stderr,
    )
