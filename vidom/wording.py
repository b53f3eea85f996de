"""How many things are named in one sentence without drowning the reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["some"]

MOST = 10


def some(items: Iterable[object], names: Mapping[Any, str] | None = None) -> str:
    """Return the first ten items, in their order, and how many more there are.

    Sample indices found in `names` are followed by the name their source has: `12 (78687)`.
    """
    items = list(items)
    names = names or {}
    told = [f"{item} ({names[item]})" if item in names else str(item) for item in items[:MOST]]
    more = f" and {len(items) - MOST} more" if len(items) > MOST else ""
    return ", ".join(told) + more
