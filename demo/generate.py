"""Writes the demo's data set: videos of moving things in Something-Something V2's layout."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from demo.drawing import draw_frames
from demo.motion import GENERATOR_VERSION, MOTIONS, Scene, draw_scene, label_names
from demo.ordered_map import each
from demo.sthv2_folder import SPLITS, Layout, Split
from vidom.command import Parser, run
from vidom.errors import UnavailableError, UsageError
from vidom.files import atomic_path, read_json, write_json
from vidom.system.machine import usable_cores

__all__ = ["generate", "main", "scene_of", "write_video"]

_log = logging.getLogger(__name__)

FRAMES_PER_SECOND = 12
# Constant quality, near-transparent at this size; one thread, so that the bytes depend on the encoder only.
_ENCODER = {"crf": "18", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "0"}
_FIRST_ID: dict[Split, int] = {"train": 100_000, "validation": 200_000}


@dataclass(frozen=True)
class _Job:
    path: Path
    split: Split
    index: int
    seed: int


def generate(
    *,
    output_dir: Path,
    validation_clips: int = 20,
    train_clips: int = 0,
    seed: int = 0,
    workers: int | None = None,
) -> Layout:
    """Return the data set in `output_dir`: so many clips of each class and split, as VP9 videos and annotations.

    Clip `i` of a split has class `i` modulo 12. Files that are there already are kept, so that a killed run
    is continued and a finished one costs nothing. `workers` processes draw (one per core by default).

    Raises UsageError when a count is negative or the folder holds a data set of another seed, size or version
    of the generator, and UnavailableError when PyAV comes without a VP9 encoder.
    """
    counts: dict[Split, int] = {"train": train_clips, "validation": validation_clips}
    if min(counts.values()) < 0 or (workers is not None and workers < 1):
        raise UsageError("--train_clips and --validation_clips must be at least 0, --workers at least 1.")
    layout = Layout(output_dir)
    _claim(layout, {"generator": GENERATOR_VERSION, "seed": seed, "clips_per_class": dict(counts)})
    jobs = [
        _Job(layout.video(video_id(split, index)), split, index, seed)
        for split in SPLITS
        for index in range(counts[split] * len(MOTIONS))
    ]
    missing = [job for job in jobs if not job.path.exists()]
    _log.info(
        f"{len(jobs)} clips of {len(MOTIONS)} classes in {output_dir}, {len(missing)} of them to be drawn."
    )
    for _ in each(_write_clip, missing, workers=workers or usable_cores(), label="generate"):
        pass
    _annotate(layout, counts, seed)
    return layout


def video_id(split: Split, index: int) -> str:
    """Return the id of a split's clip: plain digits, as in Something-Something V2."""
    return str(_FIRST_ID[split] + index)


def scene_of(split: Split, index: int, *, seed: int) -> Scene:
    """Return the scene of clip `index` of a split; no two splits or seeds share any."""
    return draw_scene(index % len(MOTIONS), seed=(seed, SPLITS.index(split), index))


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """`path` is a WebM video of `frames`, uint8 RGB [n, height, width, 3], both sides even.

    Equal frames give equal bytes with one version of the encoder. Raises UnavailableError without a VP9 encoder.
    """
    if "libvpx-vp9" not in av.codecs_available:
        raise UnavailableError(
            "The PyAV installed here has no VP9 encoder (libvpx-vp9), which the demo's videos need. The wheels "
            "on PyPI have it: pip install --force-reinstall av."
        )
    height, width = frames.shape[1:3]
    with (
        atomic_path(path) as temporary,
        # Without `bitexact` the container would carry random identifiers.
        av.open(temporary, "w", format="webm", container_options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream("libvpx-vp9", rate=Fraction(FRAMES_PER_SECOND), options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_clip(job: _Job) -> None:
    write_video(job.path, draw_frames(scene_of(job.split, job.index, seed=job.seed)))


def _claim(layout: Layout, record: dict[str, Any]) -> None:
    """The folder's record is `record`, which says from what everything else in it is made."""
    if layout.record.exists():
        found = read_json(layout.record, what="record of the generated data set")
        if found != record:
            raise UsageError(
                f"The folder {layout.root} holds a data set generated as {found}, asked for is {record}. Delete "
                "the folder, or take another one."
            )
    else:
        write_json(layout.record, record)


def _annotate(layout: Layout, counts: dict[Split, int], seed: int) -> None:
    numbers = {name: str(number) for number, name in enumerate(label_names())}
    write_json(layout.labels, numbers)
    for split in SPLITS:
        clips = range(counts[split] * len(MOTIONS))
        write_json(layout.annotation(split), [_entry(split, index, seed) for index in clips])


def _entry(split: Split, index: int, seed: int) -> dict[str, Any]:
    scene = scene_of(split, index, seed=seed)
    template, thing = MOTIONS[scene.label].template, scene.things[-1].name
    return {
        "id": video_id(split, index),
        "label": template.replace("[something]", thing).lower(),
        "template": template,
        "placeholders": [thing],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, generate, and print the data set's folder."""
    parser = Parser(description="Generate the demo's data set of moving things.")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--validation_clips", type=int, default=20, help="clips of each class to validate on")
    parser.add_argument("--train_clips", type=int, default=0, help="clips of each class to train on")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other clips")
    parser.add_argument("--workers", type=int, help="processes; one per core if not given")
    print(generate(**vars(parser.parse_args(argv))).root)


if __name__ == "__main__":
    run(main)
