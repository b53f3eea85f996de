"""Lists of items in messages, limited to a readable length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["some"]

_MOST = 10


def some(items: Iterable[object], names: Mapping[Any, str] | None = None) -> str:
    """Return the first ten items, in their order, and how many more there are.

    Sample indices found in `names` are followed by the name of their source: `12 (78687)`.
    """
    items = list(items)
    names = names or {}
    shown = [f"{item} ({names[item]})" if item in names else str(item) for item in items[:_MOST]]
    more = f" and {len(items) - _MOST} more" if len(items) > _MOST else ""
    return ", ".join(shown) + more
