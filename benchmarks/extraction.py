"""Frames per second of extraction against plain OpenCV, interleaved: `python -m benchmarks.extraction`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import av
import cv2
import numpy as np

from preprocess.decoding import Decoder, decoder_version
from preprocess.extraction import ExtractionJob, ExtractionSettings, extract_frames
from preprocess.workers import each_finished
from vidom.command import Parser, log, run
from vidom.errors import BadData, ExitCode, Lacking, UsageError
from vidom.files import write_json

__all__ = ["ExtractionRow", "ExtractionTable", "extraction", "main"]

_PER_CORE, _TWO_WORKERS = 1.0, 1.8
_SUFFIXES = (".webm", ".mp4", ".avi")


@dataclass(frozen=True)
class ExtractionRow:
    """The best of the rounds of one way of extracting, and how it compares with plain OpenCV on one core."""

    way: str
    cores: int
    frames_per_second: float
    ratio: float
    bar: float | None


@dataclass(frozen=True)
class ExtractionTable:
    """All ways, measured in the same minutes on the same videos."""

    videos: int
    frames: int
    rounds: int
    rows: tuple[ExtractionRow, ...]

    @property
    def missed(self) -> bool:
        """Whether a way stays below its bar."""
        return any(row.bar is not None and row.ratio < row.bar for row in self.rows)

    @property
    def text(self) -> str:
        """The table in Markdown."""
        lines = [
            f"{self.videos} videos, {self.frames} frames, best of {self.rounds} interleaved rounds",
            "",
            "| way | cores | frames/s | times plain | bar |",
            "|---|--:|--:|--:|--:|",
        ]
        for row in self.rows:
            bar = "" if row.bar is None else f"{row.bar:.1f}"
            lines.append(
                f"| {row.way} | {row.cores} | {row.frames_per_second:.0f} | {row.ratio:.2f} | {bar} |"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Way:
    """`seconds` extracts the videos into a folder, after a warm-up, and returns what that took."""

    name: str
    cores: int
    seconds: Callable[[Sequence[Path], Path], float]
    bar: float | None = None


def extraction(
    *, videos: Path | None = None, rounds: int = 5, output: Path | None = None, work: Path | None = None
) -> ExtractionTable:
    """Return how fast videos become frames: plain `cv2.VideoCapture` + `imwrite`, and ours with one and two workers.

    Each round runs every way once, in a process of its own that is held to as many cores as the way has; the
    shortest time counts. `videos` is a folder of videos, drawn ones in Something-Something's size if left out;
    `work` where frames go for the moment. Raises Lacking with fewer than two cores, UsageError without videos.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, found {rounds}.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Lacking("Two workers need two cores, and this process may use one only.")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        paths = _videos(videos) if videos else _drawn_videos(Path(folder) / "videos")
        frames = sum(_frame_count(path) for path in paths)
        best: dict[str, float] = {}
        for number in range(1, rounds + 1):
            for way in _WAYS:
                seconds = _in_own_process(way, paths, Path(folder) / "frames", cores[: way.cores])
                best[way.name] = min(best.get(way.name, seconds), seconds)
                log(f"round {number} of {rounds}: {way.name}: {seconds:.2f} s")
    plain = best[_WAYS[0].name]
    rows = tuple(
        ExtractionRow(way.name, way.cores, frames / best[way.name], plain / best[way.name], way.bar)
        for way in _WAYS
    )
    table = ExtractionTable(len(paths), frames, rounds, rows)
    if output:
        write_json(output, asdict(table) | {"decoders": [decoder_version("pyav"), decoder_version("opencv")]})
    return table


def _in_own_process(way: _Way, paths: Sequence[Path], folder: Path, cores: Sequence[int]) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(way, paths, folder, cores, sender))
    process.start()
    sender.close()
    seconds = float(receiver.recv())
    process.join()
    return seconds


def _measure(
    way: _Way, paths: Sequence[Path], folder: Path, cores: Sequence[int], result: Connection
) -> None:
    # Before anything counts the cores; the workers inherit it.
    os.sched_setaffinity(0, cores)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result.send(way.seconds(paths, folder))
    shutil.rmtree(folder)


def _plain_seconds(paths: Sequence[Path], folder: Path) -> float:
    _plain(paths[0], folder / "warm")
    start = time.perf_counter()
    for number, path in enumerate(paths):
        _plain(path, folder / str(number))
    return time.perf_counter() - start


def _plain(path: Path, folder: Path) -> None:
    folder.mkdir()
    capture = cv2.VideoCapture(str(path))
    number = 0
    while True:
        more, frame = capture.read()
        if not more:
            return
        number += 1
        cv2.imwrite(str(folder / f"img_{number:05d}.jpg"), frame)


def _our_seconds(paths: Sequence[Path], folder: Path, *, decoder: Decoder, workers: int) -> float:
    """Return the seconds for all videos; the clock starts when every worker has finished some first ones."""
    settings = ExtractionSettings(decoder=decoder)
    warm = 2 * workers
    jobs = [
        ExtractionJob(str(number), path, folder / str(number), settings)
        for number, path in enumerate([*[paths[0]] * warm, *paths])
    ]
    start = 0.0
    for count, result in enumerate(each_finished(extract_frames, jobs, workers=workers), 1):
        if result.reason:
            raise BadData(result.reason)
        if count == warm:
            start = time.perf_counter()
    return time.perf_counter() - start


_WAYS = (
    _Way("cv2.VideoCapture + imwrite", 1, _plain_seconds),
    _Way("PyAV, 1 worker", 1, partial(_our_seconds, decoder="pyav", workers=1), _PER_CORE),
    _Way("OpenCV, 1 worker", 1, partial(_our_seconds, decoder="opencv", workers=1), _PER_CORE),
    _Way("PyAV, 2 workers", 2, partial(_our_seconds, decoder="pyav", workers=2), _TWO_WORKERS),
)


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
    """Read the command line, measure, print the table; 1 if a way misses its bar."""
    parser = Parser(description="Measure extraction of frames against plain OpenCV.")
    parser.add_argument("--videos", type=Path, help="folder of videos; drawn ones if left out")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is measured")
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    parser.add_argument("--work", type=Path, help="folder for frames in between; a temporary one if left out")
    table = extraction(**vars(parser.parse_args(argv)))
    print(table.text)
    print("FAILED" if table.missed else "PASSED")
    return ExitCode.JUDGEMENT_FAILED if table.missed else ExitCode.DONE


if __name__ == "__main__":
    run(main)
