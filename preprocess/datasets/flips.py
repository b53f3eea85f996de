"""Classes that become one another when a video is mirrored left to right."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["flip_pairs"]

_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def flip_pairs(labels: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs (lower id, higher id) of classes whose names differ by left and right exchanged.

    For Something-Something V2 these are (86, 87), (93, 94) and (166, 167), the `flip_label_map` of mmaction2's
    training settings. Only whole words count: "upright" has no partner.
    """
    ids = {label: number for number, label in enumerate(labels)}
    pairs = ((number, ids.get(_mirrored(label), number)) for label, number in ids.items())
    return tuple((one, other) for one, other in pairs if one < other)


def _mirrored(label: str) -> str:
    return _SIDE.sub(lambda word: _other_side(word[0]), label)


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    return other.capitalize() if word[0].isupper() else other
