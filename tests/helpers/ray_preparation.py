"""Preparations of small videos, which tests run in Ray clusters."""

from __future__ import annotations

import sys
from pathlib import Path

from small_videos import write_video

ROOT = Path(__file__).parents[2]


def write_source(folder: Path, videos: int) -> Path:
    for number in range(videos):
        write_video(
            folder / "val" / "ab"[number % 2] / f"{number}.mp4", frames=40, size=(160, 120), seed=number
        )
    return folder


def prepare_words(source: Path, *words: str) -> list[str]:
    script = ROOT / "preprocess" / "prepare.py"
    return [sys.executable, str(script), "--dataset", "folder", "--src", str(source), "--out", "out", *words]


def folders(out: Path) -> int:
    made = out / "rawframes_val"
    return sum(not path.name.endswith(".part") for path in made.glob("*/*")) if made.is_dir() else 0
