"""The writing side of StNet's packs: a pickle of name, label and JPEG files, as `video2pkl.py` makes them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from preprocess.extraction import FRAME_TEMPLATE
from vidom.files import write_bytes

__all__ = ["PackJob", "write_frame_pack"]

# What Python 2 can read too, and what the original writes.
_PROTOCOL = 2


@dataclass(frozen=True)
class PackJob:
    """One extracted video and the pack to make of it; `name` is the video's without suffix."""

    name: str
    label: int
    folder: Path
    frames: int
    pack: Path


def write_frame_pack(job: PackJob) -> str:
    """The job's pack holds ("./NAME", label, [JPEG bytes of each frame]); its name is returned.

    The frames are those of the folder, byte for byte; `video2pkl.py` takes its own from ffmpeg. A pack that is
    there is whole and kept. Memory is that of the frames, three times.
    """
    if not job.pack.exists():
        numbers = range(1, job.frames + 1)
        frames = [(job.folder / FRAME_TEMPLATE.format(number)).read_bytes() for number in numbers]
        write_bytes(job.pack, pickle.dumps((f"./{job.name}", job.label, frames), _PROTOCOL))
    return job.name
