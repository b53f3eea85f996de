"""How fast frames become tensors, against plain OpenCV and numpy: `python -m benchmarks.packing --frames FOLDER …`.

Writing is left out: it depends on the disk, and is the same for all.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring.memory import peak_rss_of
from benchmarks.measuring.report import Report, check_plotting, write_report
from benchmarks.measuring.rotation import rotate
from benchmarks.measuring.settings import under_fair_settings
from benchmarks.packing.tables import DTYPES, RECIPE, plot_packing, report_packing
from benchmarks.packing.variants import frame_folders, plain_by_crop, plain_sample, ways
from preprocess.sources.frames import RawFrames
from preprocess.tensors.pipelines import resized_frames
from preprocess.tensors.pixels import Dtype
from preprocess.tensors.samples import make_sample
from vidom.command import Parser, run
from vidom.errors import CheckFailedError, ExitCode, UsageError
from vidom.formats.recipe import load_recipe
from vidom.formats.views import ViewPlan
from vidom.parallel.workers import block_size, each_finished

__all__ = ["made_in_turn", "main", "packing"]

_log = logging.getLogger(__name__)


def packing(
    *,
    frames: Sequence[Path],
    output_dir: Path,
    rounds: int = 10,
    samples: int = 1000,
    parallel_samples: int = 400,
) -> Report:
    """`output_dir` holds `packing.md`, `.json` and `.png`: how long samples of the frame folders take to make.

    Growth is shown up to `samples` samples, two workers make `parallel_samples`. Raises CheckFailedError when a plain
    way gives other bytes than vidom, UsageError for a folder without frames or too few samples.
    """
    if samples < 10 or parallel_samples < 20:
        raise UsageError("--samples must be at least 10, --parallel_samples at least 20.")
    check_plotting()
    # As in pack's workers; the plain ways get the same.
    cv2.setNumThreads(1)
    recipe = load_recipe(RECIPE)
    sources = frame_folders(frames, recipe.dataset.frame_template)
    _check_equal(sources, recipe.views)
    _log.info(f"{rounds} rounds …")
    plans = [_whole(source, recipe.views) for source in sources]
    seconds = rotate(ways(sources, recipe.views, plans), rounds=rounds)
    each = {name: found / len(sources) for name, found in seconds.items()}
    checksums = _checksums(sources[0], recipe.views, rounds)
    _log.info("workers …")
    rates = _rates(sources, recipe.views, parallel_samples, turns=min(rounds, 2))
    _log.info("growth …")
    growth = _growth(frames, samples)
    report = report_packing(each, checksums, rates, growth, sources)
    write_report(report, output_dir, plot=partial(plot_packing, each=each, growth=growth))
    return report


def _whole(source: RawFrames, plan: ViewPlan) -> ViewPlan:
    (image,) = resized_frames(source, [0], plan)
    return plan.model_copy(update={"frame_size": (image.shape[1], image.shape[0])})


def _check_equal(sources: Sequence[RawFrames], plan: ViewPlan) -> None:
    for source in sources:
        tensor = make_sample(source, plan).tensor.tobytes()
        for plain in (plain_sample, plain_by_crop):
            if plain(source, plan).tobytes() != tensor:
                raise CheckFailedError(
                    f"{plain.__name__} makes other bytes of {source.name} than vidom. Their times cannot be compared."
                )


def _checksums(source: RawFrames, plan: ViewPlan, rounds: int) -> dict[str, float]:
    """Return the seconds that the checksum of a sample takes, by dtype."""
    tensors = {dtype: make_sample(source, plan, dtype=dtype).tensor for dtype in DTYPES}
    bytes_of = {dtype: tensor.reshape(-1).view(np.uint8).data for dtype, tensor in tensors.items()}
    work: dict[str, Callable[[], object]] = {
        dtype: partial(zlib.crc32, content) for dtype, content in bytes_of.items()
    }
    return rotate(work, rounds=rounds)


def _rates(
    sources: Sequence[RawFrames], plan: ViewPlan, samples: int, *, turns: int
) -> dict[tuple[str, int], float]:
    """Return the samples a second by dtype and number of workers, the best of the turns."""
    rates: dict[tuple[str, int], float] = {}
    for _ in range(turns):
        for dtype in DTYPES:
            for workers in (1, 2):
                found = _rate(sources, plan, samples, dtype=dtype, workers=workers)
                rates[dtype, workers] = max(found, rates.get((dtype, workers), 0.0))
    return rates


def _rate(sources: Sequence[RawFrames], plan: ViewPlan, samples: int, *, dtype: Dtype, workers: int) -> float:
    jobs = islice(cycle(sources), samples)
    at_once = block_size(samples, workers=workers)
    finished = each_finished(partial(_make, plan=plan, dtype=dtype), jobs, workers=workers, at_once=at_once)
    for _ in islice(finished, samples // 5):
        pass
    began = time.perf_counter()
    count = sum(1 for _ in finished)
    return count / (time.perf_counter() - began)


def _make(source: RawFrames, *, plan: ViewPlan, dtype: Dtype) -> None:
    zlib.crc32(make_sample(source, plan, dtype=dtype).tensor.reshape(-1).view(np.uint8).data)


def made_in_turn(samples: int, dtype: Dtype, *folders: str) -> float:
    """Return the seconds that this process takes for the samples and their checksums, of these folders in turn."""
    cv2.setNumThreads(1)
    recipe = load_recipe(RECIPE)
    sources = frame_folders([Path(folder) for folder in folders], recipe.dataset.frame_template)
    began = time.perf_counter()
    for source in islice(cycle(sources), samples):
        _make(source, plan=recipe.views, dtype=dtype)
    return time.perf_counter() - began


def _growth(frames: Sequence[Path], samples: int) -> dict[int, tuple[float, int]]:
    """Return the seconds and the peak memory by number of samples, float32."""
    folders = [str(folder.absolute()) for folder in frames]
    counts = sorted({*(count for count in (10, 100, 1000, 10_000) if count < samples), samples})
    return {
        count: (
            made_in_turn(count, "float32", *folders),
            peak_rss_of(made_in_turn, count, "float32", *folders),
        )
        for count in counts
    }


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, measure, print the report; 1 if a bar is missed."""
    parser = Parser(prog="python -m benchmarks.packing", description="How fast frames become tensors.")
    add = parser.add_argument
    add("--frames", type=Path, nargs="+", required=True, help="folders of img_00001.jpg …, a video each")
    add("--output_dir", type=Path, default=Path("run/bench"), help="where report and picture go")
    add("--rounds", type=int, default=10, help="how often each way takes its turn")
    add("--samples", type=int, default=1000, help="samples up to which growth is shown")
    add("--parallel_samples", type=int, default=400, help="samples that one and two workers make")
    report = packing(**vars(parser.parse_args(argv)))
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
