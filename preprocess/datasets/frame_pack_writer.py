"""Write StNet's packs: pickles of name, label and JPEG files in the format of `video2pkl.py`."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from preprocess.datasets.frame_extraction import FRAME_TEMPLATE
from preprocess.datasets.prepared import PreparedSplit
from vidom.errors import BadDataError
from vidom.files import TEMP_SUFFIX, write_bytes, write_json
from vidom.parallel.ray_cluster import RayCluster
from vidom.parallel.workers import each_finished
from vidom.progress import progress

__all__ = ["PackJob", "write_frame_pack", "write_packs"]

# Readable by Python 2, and used by the original.
_PROTOCOL = 2


@dataclass(frozen=True)
class PackJob:
    """One extracted video and the pack to write; `name` is that of the video without suffix."""

    name: str
    label: int
    folder: Path
    frames: int
    pack: Path


def write_frame_pack(job: PackJob) -> str:
    """Write the job's pack, ("./NAME", label, [JPEG bytes of each frame]), and return its name.

    The frames are those of the folder, byte for byte; `video2pkl.py` extracts its own with ffmpeg. An existing pack is
    complete and is kept. Peak memory is three times the size of the frames.
    """
    if not job.pack.exists():
        numbers = range(1, job.frames + 1)
        frames = [(job.folder / FRAME_TEMPLATE.format(number)).read_bytes() for number in numbers]
        write_bytes(job.pack, pickle.dumps((f"./{job.name}", job.label, frames), _PROTOCOL))
    return job.name


def write_packs(
    prepared: PreparedSplit, folder: Path, *, workers: int, cluster: RayCluster | None = None
) -> None:
    """Write the split's packs to `folder`, and its list in the format of StNet's loader.

    Raises BadDataError if two clips have the same name.
    """
    title = prepared.split.title
    jobs = [
        PackJob(
            name=Path(entry.name).name,
            label=entry.label,
            folder=prepared.frame_root / entry.name,
            frames=frames,
            pack=folder / title / f"{Path(entry.name).name}.pkl",
        )
        for entry, frames in prepared.entries
    ]
    if len({job.pack for job in jobs}) != len(jobs):
        raise BadDataError(f"{title} has a clip in two classes, but packs are named by clip only.")
    with progress(total=len(jobs), unit="video", label=f"pack {title}") as bar:
        few = len(jobs) <= 2 * workers
        for _ in each_finished(write_frame_pack, jobs, workers=1 if few else workers, cluster=cluster):
            bar.update()
    for leftover in (folder / title).glob(f"*{TEMP_SUFFIX}"):
        leftover.unlink()
    write_json(folder / f"{title}.json", [{"video_name": f"{job.name}.mp4"} for job in jobs], indent=None)
