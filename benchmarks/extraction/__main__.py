"""How fast videos become frames, against plain OpenCV: `python -m benchmarks.extraction`.

Per core counts the CPU time of one process on one core: for each video the ways take turns, and each video's
shortest time counts, so that what others do on the machine counts little. Two workers are measured by the clock,
and need a machine that does nothing else.
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
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.measuring.report import Bar, Report, Table, write_report
from benchmarks.measuring.settings import machine_state
from preprocess.datasets.frame_extraction import ExtractionJob, ExtractionSettings, extract_frames
from preprocess.sources.decoding import Decoder, decoder_version
from vidom.command import Parser, run
from vidom.errors import BadDataError, ExitCode, UnavailableError, UsageError
from vidom.parallel.workers import each_finished

__all__ = ["extraction", "main"]

_PLAIN, _DEFAULT, _TWO_WORKERS = "plain cv2", "opencv", "opencv, 2 workers"
_BARS = {_DEFAULT: 1.0, _TWO_WORKERS: 1.8}
_SUFFIXES = (".webm", ".mp4", ".avi")
Extract = Callable[[Path, Path], object]


def extraction(
    *, output_dir: Path, videos: Path | None = None, rounds: int = 5, work: Path | None = None
) -> Report:
    """`output_dir` holds how fast videos become frames: plain `cv2.VideoCapture` + `imwrite`, and ours.

    `videos` is a folder of videos, drawn ones in Something-Something's size if left out; `work` where frames go
    for the moment. Raises UnavailableError with fewer than two cores, UsageError without videos.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, found {rounds}.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UnavailableError("Two workers need two cores, and this process may use one only.")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        paths = _videos(videos) if videos else _drawn_videos(Path(folder) / "videos")
        frames = sum(_frame_count(path) for path in paths)
        scratch = Path(folder) / "frames"
        per_core = _in_own_process(_per_core, cores[:1], paths, scratch, rounds)
        clock: dict[str, float] = {}
        for _ in range(rounds):
            clock = _shortest(clock, _in_own_process(_plain_pass, cores[:1], paths, scratch))
            clock = _shortest(clock, _in_own_process(_two_worker_pass, cores[:2], paths, scratch))
    report = Report(
        name="extraction",
        question="How fast do videos become frames, against plain OpenCV?",
        tables=[
            Table(
                f"{len(paths)} videos, {frames} frames",
                ["way", "clock", "frames/s", "times plain"],
                [
                    (way, name, frames / spent, seconds[_PLAIN] / spent)
                    for name, seconds in (("CPU", per_core), ("wall", clock))
                    for way, spent in seconds.items()
                ],
                f"CPU: one process on one core, each video's shortest of {rounds} rounds in turn. wall: the shortest "
                f"of {rounds} passes in turn over all videos, and two cores for the two workers.",
            )
        ],
        bars=[
            Bar(f"{way} against {_PLAIN}", seconds[_PLAIN] / seconds[way], wanted)
            for seconds in (per_core, clock)
            for way, wanted in _BARS.items()
            if way in seconds
        ],
        conditions={
            "decoders": f"{decoder_version('pyav')}, {decoder_version('opencv')}",
            "rounds": rounds,
            **machine_state(),
        },
    )
    write_report(report, output_dir)
    return report


def _shortest(best: dict[str, float], found: dict[str, float]) -> dict[str, float]:
    return best | {way: min(seconds, best.get(way, seconds)) for way, seconds in found.items()}


def _in_own_process(
    measure: Callable[..., dict[str, float]], cores: Sequence[int], *arguments: Any
) -> dict[str, float]:
    """Return what `measure` returns in a fresh process that, with its workers, is held to these cores."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_hold, initargs=(cores,)) as pool:
        return pool.submit(measure, *arguments).result()


def _hold(cores: Sequence[int]) -> None:
    # Before anything counts the cores.
    os.sched_setaffinity(0, cores)


def _per_core(paths: Sequence[Path], scratch: Path, rounds: int) -> dict[str, float]:
    ways: dict[str, Extract] = {
        _PLAIN: _plain,
        _DEFAULT: partial(_ours, decoder="opencv"),
        "pyav": partial(_ours, decoder="pyav"),
    }
    best: dict[str, list[float]] = {way: [math.inf] * len(paths) for way in ways}
    for _ in range(rounds + 1):
        for number, path in enumerate(paths):
            for way, extract in ways.items():
                start = time.process_time()
                extract(path, scratch / way)
                best[way][number] = min(best[way][number], time.process_time() - start)
                shutil.rmtree(scratch)
    return {way: sum(seconds) for way, seconds in best.items()}


def _plain_pass(paths: Sequence[Path], scratch: Path) -> dict[str, float]:
    _plain(paths[0], scratch / "warm")
    start = time.perf_counter()
    for number, path in enumerate(paths):
        _plain(path, scratch / str(number))
    seconds = time.perf_counter() - start
    shutil.rmtree(scratch)
    return {_PLAIN: seconds}


def _two_worker_pass(paths: Sequence[Path], scratch: Path) -> dict[str, float]:
    """Measure all videos; the clock starts when the workers have finished some first ones."""
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
        raise UsageError(f"{folder} holds no {', '.join(_SUFFIXES)} files.")
    return paths


def _frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def _drawn_videos(folder: Path, *, count: int = 24, frames: int = 45) -> tuple[Path, ...]:
    """Write drifting cloudy pictures, 427x240 in VP9 at 12 frames a second."""
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
                picture = np.ascontiguousarray(field[place : place + height, 2 * place : 2 * place + width])
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        paths.append(path)
    return tuple(paths)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, measure, print the report; 1 if a bar is missed."""
    parser = Parser(
        prog="python -m benchmarks.extraction",
        description="Measure extraction of frames against plain OpenCV.",
    )
    parser.add_argument("--videos", type=Path, help="folder of videos; drawn ones if left out")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way takes its turn")
    parser.add_argument("--output_dir", type=Path, default=Path("run/bench"), help="where the report goes")
    parser.add_argument("--work", type=Path, help="folder for frames in between; a temporary one if left out")
    report = extraction(**vars(parser.parse_args(argv)))
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    run(main)
