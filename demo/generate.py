"""Generate the demo's data set: videos of moving things in Something-Something V2's layout."""

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

from demo.motion import GENERATOR_VERSION, Scene, generate_scene
from demo.motion_sets import ONE_WAY, MotionSet
from demo.rendering import render_frames
from demo.sthv2_folder import SPLITS, Layout, Split
from vidom.bounded_reading import read_json
from vidom.command import run
from vidom.errors import UnavailableError, UsageError
from vidom.files import atomic_path, write_json
from vidom.folder_lock import locked_folder
from vidom.options import option, read_options
from vidom.parallel.workers import each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["GenerateOptions", "generate", "main", "scene_of", "write_video"]

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


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Generate the demo's data set of moving things."""

    output_dir: Path = option("folder of the data set")
    validation_clips: int = option("validation clips of each class", default=20)
    train_clips: int = option("training clips of each class", default=0)
    seed: int = option("seed of the clips", default=0)
    workers: int | None = option("processes (default: one per core)", default=None)

    def __post_init__(self) -> None:
        if min(self.train_clips, self.validation_clips) < 0 or (
            self.workers is not None and self.workers < 1
        ):
            raise UsageError("--train_clips and --validation_clips must be at least 0, --workers at least 1.")


def generate(options: GenerateOptions) -> Layout:
    """Write the VP9 videos and annotations of the data set and return its layout.

    Clip `i` of a split has class `i` modulo 12. Existing files are kept, so that an interrupted run resumes.

    Raises UsageError when the folder contains a data set of a different seed, size or version of the generator, and
    UnavailableError when PyAV has no VP9 encoder.
    """
    counts: dict[Split, int] = {"train": options.train_clips, "validation": options.validation_clips}
    layout, seed = Layout(options.output_dir), options.seed
    _claim(layout, {"generator": GENERATOR_VERSION, "seed": seed, "clips_per_class": dict(counts)})
    jobs = [
        _Job(layout.video(video_id(split, index)), split, index, seed)
        for split in SPLITS
        for index in range(counts[split] * len(ONE_WAY.motions))
    ]
    missing = [job for job in jobs if not job.path.exists()]
    _log.info(
        f"{len(jobs)} clips of {len(ONE_WAY.motions)} classes in {options.output_dir}, {len(missing)} to generate."
    )
    workers = options.workers or usable_cores()
    # Starting processes for a few clips takes longer than generating them.
    workers = 1 if len(missing) < 2 * workers else workers
    with progress(total=len(missing), unit="clip", label="generate") as bar:
        for _ in each_finished(_write_clip, missing, workers=workers):
            bar.update()
    _annotate(layout, counts, seed)
    return layout


def video_id(split: Split, index: int) -> str:
    """Return the id of a split's clip: plain digits, as in Something-Something V2."""
    return str(_FIRST_ID[split] + index)


def scene_of(split: Split, index: int, *, seed: int, motions: MotionSet = ONE_WAY) -> Scene:
    """Return the scene of clip `index` of a split; splits and seeds have no scene in common."""
    label = index % len(motions.motions)
    return generate_scene(label, seed=(seed, SPLITS.index(split), index), motions=motions)


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """Write a WebM video of `frames`, uint8 RGB [n, height, width, 3], height and width even.

    Equal frames give equal bytes with the same encoder version. Raises UnavailableError without a VP9 encoder.
    """
    if "libvpx-vp9" not in av.codecs_available:
        raise UnavailableError(
            "The installed PyAV has no VP9 encoder (libvpx-vp9), which the demo's videos need. The wheels on PyPI "
            "have it: pip install --force-reinstall av."
        )
    height, width = frames.shape[1:3]
    with (
        atomic_path(path) as temporary,
        # Without `bitexact` the container has random identifiers.
        av.open(temporary, "w", format="webm", container_options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream("libvpx-vp9", rate=Fraction(FRAMES_PER_SECOND), options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_clip(job: _Job) -> None:
    write_video(job.path, render_frames(scene_of(job.split, job.index, seed=job.seed)))


def _claim(layout: Layout, record: dict[str, Any]) -> None:
    """Write the folder's record, or raise UsageError if it differs from `record`."""
    if layout.record.exists():
        found = read_json(layout.record, what="record of the generated data set")
        if found != record:
            raise UsageError(
                f"The folder {layout.root} contains a data set generated with {found}, not {record}. Delete the "
                "folder, or use a different one."
            )
    else:
        write_json(layout.record, record)


def _annotate(layout: Layout, counts: dict[Split, int], seed: int) -> None:
    numbers = {name: str(number) for number, name in enumerate(ONE_WAY.names)}
    write_json(layout.labels, numbers)
    for split in SPLITS:
        clips = range(counts[split] * len(ONE_WAY.motions))
        write_json(layout.annotation(split), [_entry(split, index, seed) for index in clips])


def _entry(split: Split, index: int, seed: int) -> dict[str, Any]:
    scene = scene_of(split, index, seed=seed)
    template, thing = ONE_WAY.motions[scene.label].template, scene.things[-1].name
    return {
        "id": video_id(split, index),
        "label": template.replace("[something]", thing).lower(),
        "template": template,
        "placeholders": [thing],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Generate the data set and print its folder."""
    options = read_options(GenerateOptions, argv, prog="python -m demo.generate")
    with locked_folder(options.output_dir):
        print(generate(options).root)


if __name__ == "__main__":
    run(main)
