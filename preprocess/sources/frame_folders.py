"""The frame numbers in a folder of extracted frames, in constant memory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

__all__ = ["FrameNumbers", "frame_numbers"]

_MAX_NUMBER = 10_000_000
_SHOWN = 10


@dataclass(frozen=True)
class FrameNumbers:
    """The frames in a folder: their count, the lowest and highest number, and the first ten missing in between.

    `other_entries` counts the directory entries whose names are not frame names.
    """

    frames: int
    first: int
    last: int
    missing: tuple[int, ...]
    other_entries: int


def frame_numbers(folder: Path, *, template: str = "img_{:05}.jpg") -> FrameNumbers:
    """Return the numbers of the frames in `folder`, whose names follow `template`.

    Directory entries are streamed, never sorted or held in memory; only one byte per number up to the highest one
    is kept. Names that the template would not produce (img_1.jpg next to img_00001.jpg) and numbers above ten
    million count as `other_entries`. Raises FileNotFoundError or NotADirectoryError.
    """
    present = bytearray(1 << 10)
    other_entries = 0
    pattern = _pattern(template)
    with os.scandir(folder) as entries:
        for entry in entries:
            found = pattern.fullmatch(entry.name)
            number = int(found[1]) if found else _MAX_NUMBER + 1
            if number > _MAX_NUMBER or template.format(number) != entry.name:
                other_entries += 1
                continue
            if number >= len(present):
                present.extend(bytes(max(len(present), number + 1 - len(present))))
            present[number] = 1
    frames = present.count(1)
    first, last = max(present.find(1), 0), max(present.rfind(1), 0)
    missing = islice((number for number in range(first, last + 1) if not present[number]), _SHOWN)
    gaps = last - first + 1 != frames and frames > 0
    return FrameNumbers(frames, first, last, tuple(missing) if gaps else (), other_entries)


def _pattern(template: str) -> re.Pattern[str]:
    before, rest = template.split("{", 1)
    after = rest.split("}", 1)[1]
    return re.compile(f"{re.escape(before)} *([0-9]{{1,12}}){re.escape(after)}")
