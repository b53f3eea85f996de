"""Packing in this process, which spares a test the start of workers."""

from __future__ import annotations

from preprocess.pack import PackOptions, pack
from vidom.formats.clip_store import ClipStore


def packed_by_one(**options: object) -> ClipStore:
    """Return the clip store of these options, packed by one worker unless they say otherwise."""
    return pack(PackOptions(**{"workers": 1, **options}))  # type: ignore[arg-type]
