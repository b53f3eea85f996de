"""Speed of making tensors from frames, compared with plain OpenCV and numpy.

`python -m benchmarks.packing --frames FOLDER …`. Writing is not included: it depends on the disk and is the same for
all variants.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring.interleaved import interleave
from benchmarks.measuring.memory import peak_rss_of
from benchmarks.measuring.report import Report, check_plotting, reported, write_report
from benchmarks.packing.tables import DTYPES, RECIPE, plot_packing, report_packing
from benchmarks.packing.variants import all_variants, frame_folders, plain_by_crop, plain_sample
from preprocess.sources.frames import RawFrames
from preprocess.tensors.pipelines import resized_frames
from preprocess.tensors.pixels import Dtype
from preprocess.tensors.samples import make_sample
from vidom.errors import CheckFailedError, ExitCode, UsageError
from vidom.formats.recipe import load_recipe
from vidom.formats.views import ViewPlan
from vidom.options import option, read_options
from vidom.parallel.workers import block_size, each_finished

__all__ = ["PackingOptions", "made_sequentially", "main", "packing"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PackingOptions:
    """Measure how fast frames become tensors."""

    frames: tuple[Path, ...] = option("folders of img_00001.jpg …, one per video")
    output_dir: Path = option("folder of the report and figure", default=Path("run/bench"))
    rounds: int = option("interleaved runs of each variant", default=10)
    samples: int = option("largest number of samples in the scaling table", default=1000)
    parallel_samples: int = option("samples that one and two workers make", default=400)

    def __post_init__(self) -> None:
        if self.samples < 10 or self.parallel_samples < 20:
            raise UsageError("--samples must be at least 10, --parallel_samples at least 20.")


def packing(options: PackingOptions) -> Report:
    """Write `packing.md`, `.json` and `.png`: the time to make samples of the frame folders; return the report.

    Raises CheckFailedError when the bytes of a plain variant differ from vidom's, UsageError for a folder without
    frames.
    """
    check_plotting()
    # As in pack's workers, for the plain variants too.
    cv2.setNumThreads(1)
    recipe = load_recipe(RECIPE)
    sources = frame_folders(options.frames, recipe.dataset.frame_naming)
    _check_equal(sources, recipe.views)
    _log.info(f"{options.rounds} rounds …")
    plans = [_whole(source, recipe.views) for source in sources]
    seconds = interleave(all_variants(sources, recipe.views, plans), rounds=options.rounds)
    each = {name: spent / len(sources) for name, spent in seconds.items()}
    checksums = _checksums(sources[0], recipe.views, options.rounds)
    _log.info("workers …")
    rates = _rates(sources, recipe.views, options.parallel_samples, rounds=min(options.rounds, 2))
    _log.info("scaling …")
    scaling = _scaling(options.frames, options.samples)
    report = report_packing(each, checksums, rates, scaling, sources)
    write_report(report, options.output_dir, plot=partial(plot_packing, each=each, scaling=scaling))
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
                    f"The bytes of {plain.__name__} differ from vidom's for {source.name}; times are not comparable."
                )


def _checksums(source: RawFrames, plan: ViewPlan, rounds: int) -> dict[str, float]:
    """Return the seconds of a sample's checksum, by dtype."""
    tensors = {dtype: make_sample(source, plan, dtype=dtype).tensor for dtype in DTYPES}
    bytes_of = {dtype: tensor.reshape(-1).view(np.uint8).data for dtype, tensor in tensors.items()}
    work: dict[str, Callable[[], object]] = {
        dtype: partial(zlib.crc32, content) for dtype, content in bytes_of.items()
    }
    return interleave(work, rounds=rounds)


def _rates(
    sources: Sequence[RawFrames], plan: ViewPlan, samples: int, *, rounds: int
) -> dict[tuple[str, int], float]:
    """Return the samples/s by dtype and number of workers, the best of the rounds."""
    rates: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for dtype in DTYPES:
            for workers in (1, 2):
                rate = _rate(sources, plan, samples, dtype=dtype, workers=workers)
                rates[dtype, workers] = max(rate, rates.get((dtype, workers), 0.0))
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


def made_sequentially(samples: int, dtype: Dtype, *folders: str) -> float:
    """Return the seconds of this process for the samples and their checksums, cycling through the folders."""
    cv2.setNumThreads(1)
    recipe = load_recipe(RECIPE)
    sources = frame_folders([Path(folder) for folder in folders], recipe.dataset.frame_naming)
    began = time.perf_counter()
    for source in islice(cycle(sources), samples):
        _make(source, plan=recipe.views, dtype=dtype)
    return time.perf_counter() - began


def _scaling(frames: Sequence[Path], samples: int) -> dict[int, tuple[float, int]]:
    """Return the seconds and the peak memory by number of samples, float32."""
    folders = [str(folder.absolute()) for folder in frames]
    counts = sorted({*(count for count in (10, 100, 1000, 10_000) if count < samples), samples})
    return {
        count: (
            made_sequentially(count, "float32", *folders),
            peak_rss_of(made_sequentially, count, "float32", *folders),
        )
        for count in counts
    }


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a target is missed."""
    return reported(packing, read_options(PackingOptions, argv, prog="python -m benchmarks.packing"))
