"""Lists and foreign text in messages: of a readable length, without control characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["escaped", "shown", "some"]

_MOST = 10
# C0, C1, line separators, the marks that turn the reading direction, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def some(items: Iterable[object], names: Mapping[Any, str] | None = None) -> str:
    """Return the first ten items, in their order, and how many more there are.

    Sample indices found in `names` are followed by the name of their source: `12 (78687)`.
    """
    items = list(items)
    names = names or {}
    shown = [f"{item} ({names[item]})" if item in names else str(item) for item in items[:_MOST]]
    more = f" and {len(items) - _MOST} more" if len(items) > _MOST else ""
    return ", ".join(shown) + more


def escaped(text: str, limit: int = 4000) -> str:
    """Return `text` with control characters other than tab and newline escaped, and its middle left out beyond `limit`.

    A terminal obeys control characters; whoever made the file whose text is shown must not command it.
    """
    if len(text) > limit:
        text = f"{text[: limit // 2]} [{len(text) - limit} characters left out] {text[-(limit // 2) :]}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def shown(text: object, limit: int = 200) -> str:
    """Return foreign text, such as a name out of a file, as one line of a bounded length without control characters."""
    return escaped(str(text), limit).replace("\n", "\\n").replace("\t", "\\t")
