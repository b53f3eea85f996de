"""Videos of the demo's data set to JPEG frames and lists, as mmaction2's data tools write them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from demo.layout import FRAME_TEMPLATE, SPLITS, Layout
from demo.parallel import each
from preprocess.video import VideoFile
from vidom.command import Parser, log, run
from vidom.errors import UsageError
from vidom.files import TEMP_SUFFIX, write_text

__all__ = ["extract", "main"]

# What `build_rawframes.py --use-opencv` of mmaction2 writes.
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Job:
    video: Path
    folder: Path


def extract(*, data_root: Path, workers: int | None = None) -> Layout:
    """Return the data set in `data_root` after giving every annotated video its frames, and each split its lists.

    Frames are `rawframes/ID/img_00001.jpg` onwards at the video's own size. Folders that are there already are
    complete and kept. A split without videos gets no lists. `workers` processes decode (one per core by
    default). Raises BadData for annotations or videos that cannot be read.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, found {workers}.")
    layout = Layout(data_root)
    splits = {split: layout.read_split(split) for split in SPLITS}
    jobs = [
        _Job(layout.video(video.id), layout.frames(video.id))
        for videos in splits.values()
        for video in videos
    ]
    missing = [job for job in jobs if not job.folder.exists()]
    log(f"{len(jobs)} videos in {data_root}, {len(missing)} of them to be extracted.")
    for _ in each(_extract_video, missing, workers=workers or os.cpu_count() or 1, label="extract"):
        pass
    for split, videos in splits.items():
        if videos:
            _write_lines(layout.video_list(split), (f"{v.id}.webm {v.label}" for v in videos))
            counted = ((v, sum(1 for _ in layout.frames(v.id).glob("img_*.jpg"))) for v in videos)
            _write_lines(layout.frame_list(split), (f"{v.id} {count} {v.label}" for v, count in counted))
    return layout


def _extract_video(job: _Job) -> None:
    """The job's folder holds all frames of its video; it gets its name only when the last one is written."""
    source = VideoFile(job.video)
    unfinished = job.folder.with_name(job.folder.name + TEMP_SUFFIX)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, frame in enumerate(source.read(range(source.total_frames)), 1):
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (unfinished / FRAME_TEMPLATE.format(number)).write_bytes(content.tobytes())
    unfinished.rename(job.folder)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, extract, and print the data set's folder."""
    parser = Parser(description="Extract the demo's videos to JPEG frames and write the lists.")
    parser.add_argument("--data_root", type=Path, required=True, help="folder of the generated data set")
    parser.add_argument("--workers", type=int, help="processes; one per core if not given")
    print(extract(**vars(parser.parse_args(argv))).root)


if __name__ == "__main__":
    run(main)
