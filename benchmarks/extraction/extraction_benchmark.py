"""Speed of extracting frames from videos, compared with plain OpenCV: `python -m benchmarks.extraction`.

The numbers per core are CPU time of one process on one core: the variants are interleaved for each video, and each
video's shortest time counts, which reduces the effect of other load. Two workers are measured in wall time and need an
idle machine.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.measuring.report import Report, Table, Target, reported, write_report
from benchmarks.measuring.settings import machine_state
from preprocess.datasets.frame_extraction import ExtractionJob, ExtractionSettings, extract_frames
from preprocess.sources.decoding import Decoder, decoder_version
from vidom.errors import BadDataError, ExitCode, UnavailableError, UsageError
from vidom.options import option, read_options
from vidom.parallel.workers import each_finished

__all__ = ["ExtractionOptions", "extraction", "main"]

_PLAIN, _DEFAULT, _TWO_WORKERS = "plain cv2", "pyav", "pyav, 2 workers"
_REQUIRED = {_DEFAULT: 0.95, _TWO_WORKERS: 1.8}
_SUFFIXES = (".webm", ".mp4", ".avi")
Extract = Callable[[Path, Path], object]


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """Measure the extraction of frames, compared with plain OpenCV."""

    videos: Path | None = option(
        "folder of videos (default: synthetic ones in Something-Something's size)", default=None
    )
    rounds: int = option("interleaved runs of each variant", default=5)
    output_dir: Path = option("folder of the report", default=Path("run/bench"))
    work: Path | None = option("folder of the temporary frames (default: the system's)", default=None)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"--rounds must be at least 1, not {self.rounds}.")


def extraction(options: ExtractionOptions) -> Report:
    """Write `extraction.md` and `.json`: the speed of plain `cv2.VideoCapture` + `imwrite`, and of vidom.

    Returns the report. Raises UnavailableError with fewer than two cores, UsageError without videos.
    """
    rounds = options.rounds
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UnavailableError("Two workers need two cores, but this process may use only one.")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        paths = _videos(options.videos) if options.videos else _synthetic_videos(Path(folder) / "videos")
        frames = sum(_frame_count(path) for path in paths)
        scratch = Path(folder) / "frames"
        per_core = _in_new_process(_per_core, cores[:1], paths, scratch, rounds)
        clock: dict[str, float] = {}
        for _ in range(rounds):
            clock = _shortest(clock, _in_new_process(_plain_pass, cores[:1], paths, scratch))
            clock = _shortest(clock, _in_new_process(_two_worker_pass, cores[:2], paths, scratch))
    report = Report(
        name="extraction",
        question="How fast are frames extracted from videos, compared with plain OpenCV?",
        tables=[
            Table(
                f"{len(paths)} videos, {frames} frames",
                ["variant", "time", "frames/s", "speedup over plain"],
                [
                    (variant, name, frames / spent, seconds[_PLAIN] / spent)
                    for name, seconds in (("CPU", per_core), ("wall", clock))
                    for variant, spent in seconds.items()
                ],
                f"CPU: one process on one core, each video's shortest of {rounds} interleaved rounds. wall: the "
                f"shortest of {rounds} interleaved passes over all videos, with two cores for the two workers.",
            )
        ],
        targets=[
            Target(f"{variant}, speedup over {_PLAIN}", seconds[_PLAIN] / seconds[variant], required)
            for seconds in (per_core, clock)
            for variant, required in _REQUIRED.items()
            if variant in seconds
        ],
        conditions={
            "decoders": f"{decoder_version('pyav')}, {decoder_version('opencv')}",
            "rounds": rounds,
            **machine_state(),
        },
    )
    write_report(report, options.output_dir)
    return report


def _shortest(best: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    return best | {variant: min(seconds, best.get(variant, seconds)) for variant, seconds in new.items()}


def _in_new_process(
    measure: Callable[..., dict[str, float]], cores: Sequence[int], *arguments: Any
) -> dict[str, float]:
    """Return the result of `measure` in a new process that, with its workers, is limited to these cores."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_limit_cores, initargs=(cores,)) as pool:
        return pool.submit(measure, *arguments).result()


def _limit_cores(cores: Sequence[int]) -> None:
    # Before anything counts the cores.
    os.sched_setaffinity(0, cores)


def _per_core(paths: Sequence[Path], scratch: Path, rounds: int) -> dict[str, float]:
    variants: dict[str, Extract] = {
        _PLAIN: _plain,
        _DEFAULT: partial(_ours, decoder="pyav"),
        "opencv, checked": partial(_ours, decoder="opencv"),
    }
    best: dict[str, list[float]] = {variant: [math.inf] * len(paths) for variant in variants}
    for _ in range(rounds + 1):
        for number, path in enumerate(paths):
            for variant, extract in variants.items():
                start = time.process_time()
                extract(path, scratch / variant)
                best[variant][number] = min(best[variant][number], time.process_time() - start)
                shutil.rmtree(scratch)
    return {variant: sum(seconds) for variant, seconds in best.items()}


def _plain_pass(paths: Sequence[Path], scratch: Path) -> dict[str, float]:
    _plain(paths[0], scratch / "warm")
    start = time.perf_counter()
    for number, path in enumerate(paths):
        _plain(path, scratch / str(number))
    seconds = time.perf_counter() - start
    shutil.rmtree(scratch)
    return {_PLAIN: seconds}


def _two_worker_pass(paths: Sequence[Path], scratch: Path) -> dict[str, float]:
    """Measure all videos; timing starts when the workers have finished a few warm-up videos."""
    warm = 4
    jobs = [
        ExtractionJob(str(number), path, scratch / str(number), ExtractionSettings())
        for number, path in enumerate([*[paths[0]] * warm, *paths])
    ]
    start = 0.0
    for count, result in enumerate(each_finished(extract_frames, jobs, workers=2), 1):
        if result.reason:
            raise BadDataError(result.reason)
        if count == warm:
            start = time.perf_counter()
    seconds = time.perf_counter() - start
    shutil.rmtree(scratch)
    return {_TWO_WORKERS: seconds}


def _plain(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    capture = cv2.VideoCapture(str(path))
    number = 0
    while True:
        more, frame = capture.read()
        if not more:
            return
        number += 1
        cv2.imwrite(f"{folder}/img_{number:05d}.jpg", frame)


def _ours(path: Path, folder: Path, *, decoder: Decoder) -> None:
    result = extract_frames(ExtractionJob("", path, folder, ExtractionSettings(decoder=decoder)))
    if result.reason:
        raise BadDataError(result.reason)


def _videos(folder: Path) -> tuple[Path, ...]:
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES))
    if not paths:
        raise UsageError(f"{folder} contains no {', '.join(_SUFFIXES)} files.")
    return paths


def _frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def _synthetic_videos(folder: Path, *, count: int = 24, frames: int = 45) -> tuple[Path, ...]:
    """Write videos of drifting random textures, 427x240 in VP9 at 12 frames per second."""
    folder.mkdir(parents=True)
    width, height = 427, 240
    paths = []
    for seed in range(count):
        generator = np.random.default_rng(seed)
        grain = generator.integers(0, 256, (40, 64, 3), np.uint8)
        field = cv2.resize(grain, (width + 2 * frames, height + frames), interpolation=cv2.INTER_CUBIC)
        path = folder / f"{seed}.webm"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libvpx-vp9", rate=12, options={"cpu-used": "8", "deadline": "realtime"}
            )
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for place in range(frames):
                image = np.ascontiguousarray(field[place : place + height, 2 * place : 2 * place + width])
                frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        paths.append(path)
    return tuple(paths)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a target is missed."""
    return reported(extraction, read_options(ExtractionOptions, argv, prog="python -m benchmarks.extraction"))
