"""The writing side of StNet's packs: a pickle of name, label and JPEG files, as `video2pkl.py` makes them."""

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


def write_packs(
    prepared: PreparedSplit, folder: Path, *, workers: int, cluster: RayCluster | None = None
) -> None:
    """`folder` holds the split's packs, and its list as StNet's loader reads it.

    Raises BadDataError when two of the clips have one name.
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
        raise BadDataError(f"{title} has a clip in two classes, which packs named by clip cannot hold.")
    with progress(total=len(jobs), unit="video", label=f"pack {title}") as bar:
        few = len(jobs) <= 2 * workers
        for _ in each_finished(write_frame_pack, jobs, workers=1 if few else workers, cluster=cluster):
            bar.update()
    for leftover in (folder / title).glob(f"*{TEMP_SUFFIX}"):
        leftover.unlink()
    write_json(folder / f"{title}.json", [{"video_name": f"{job.name}.mp4"} for job in jobs], indent=None)
