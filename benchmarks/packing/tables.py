"""The report of `benchmarks.packing`: what its seconds say, in tables, bars and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.measuring.report import Bar, Report, Table
from benchmarks.measuring.settings import machine_state
from benchmarks.packing.variants import PLAIN, STAGES
from preprocess.sources.frames import RawFrames
from preprocess.tensors.pixels import Dtype

__all__ = ["DTYPES", "RECIPE", "plot_packing", "report_packing"]

RECIPE = "tsm_sthv2"
DTYPES: tuple[Dtype, ...] = ("float32", "uint8")
WANTED = {"float32": 2.0, "uint8": 4.0}
WORKERS = 1.8

_SAMPLE_NOTE = (
    "Each plain way was checked to give the bytes of vidom's float32. The first one takes the steps as one writes them "
    "down: read, resize, crop, stack, normalise as mmcv does, transpose. The second is the same rearranged for speed: "
    "colours turned in the frames, each crop transposed at once. Bars are ratios to the first."
)
_STAGE_NOTE = (
    "Differences between the stages run one by one. Decoding JPEG is the floor: nothing that gives the same bytes does "
    "it in fewer steps. The checksum is computed by pack for the manifest, over each file."
)
_WORKERS_NOTE = (
    "What pack's workers do but for writing: tensors and their checksums. The clock starts when a fifth of the samples "
    "is done and all workers are under way; each has one thread. To start, two workers need about a second."
)


def report_packing(
    each: dict[str, float],
    checksums: dict[str, float],
    rates: dict[tuple[str, int], float],
    growth: dict[int, tuple[float, int]],
    sources: Sequence[RawFrames],
) -> Report:
    """Return the report of seconds a sample by way, of a checksum by dtype, samples a second by dtype and workers, and
    (seconds, bytes at the peak) by number of samples.
    """
    decoding = each["decoded"] - each["files read"]
    made = [
        (name, 1e3 * seconds, each[PLAIN] / seconds, decoding / seconds)
        for name, seconds in each.items()
        if name not in STAGES
    ]
    parallel = [
        (dtype, rates[dtype, 1], rates[dtype, 2], rates[dtype, 2] / rates[dtype, 1]) for dtype in DTYPES
    ]
    grown = [(count, seconds, count / seconds, peak / 1e6) for count, (seconds, peak) in growth.items()]
    return Report(
        name="packing",
        question="How long does it take to make a sample's tensor, writing left out, and where does the time go?",
        tables=(
            Table(
                f"One sample of {RECIPE}, one process",
                ("way", "ms", f"times as fast as {PLAIN.partition(':')[0]}", "decoding, share of it"),
                made,
                _SAMPLE_NOTE,
            ),
            Table(
                "Where the time goes",
                ("stage", "ms", "share of float32"),
                _stages(each, checksums),
                _STAGE_NOTE,
            ),
            Table(
                "Workers",
                ("dtype", "one, samples/s", "two, samples/s", "ratio"),
                parallel,
                _WORKERS_NOTE,
            ),
            Table(
                "Growth, float32, one process, with checksums",
                ("samples", "seconds", "samples/s", "peak MB"),
                grown,
            ),
        ),
        bars=(
            *(
                Bar(f"{dtype} against plain", each[PLAIN] / each[f"vidom, {dtype}"], WANTED[dtype])
                for dtype in DTYPES
            ),
            *(Bar(f"two workers against one, {dtype}", ratio, WORKERS) for dtype, _, _, ratio in parallel),
        ),
        conditions={
            "frame folders": ", ".join("/".join(source.folder.parts[-2:]) for source in sources),
            **machine_state(),
        },
    )


def _stages(each: dict[str, float], checksums: dict[str, float]) -> list[tuple[str, float, float | None]]:
    whole, before = each["vidom, float32"], 0.0
    rows: list[tuple[str, float, float | None]] = []
    for name in STAGES:
        rows.append((name, 1e3 * (each[name] - before), (each[name] - before) / whole))
        before = each[name]
    for dtype in DTYPES:
        seconds = each[f"vidom, {dtype}"] - before
        rows.append(
            (f"crops written, {dtype}", 1e3 * seconds, seconds / whole if dtype == "float32" else None)
        )
    rows += [
        (f"checksum, {name} (not counted above)", 1e3 * found, None) for name, found in checksums.items()
    ]
    return rows


def plot_packing(figure: Any, *, each: dict[str, float], growth: dict[int, tuple[float, int]]) -> None:
    """`figure` shows the ways side by side, and the growth."""
    bars, grown = figure.subplots(1, 2)
    made = {name: 1e3 * seconds for name, seconds in each.items() if name not in STAGES}
    names = [name.partition(":")[0].replace("vidom, ", "vidom,\n") for name in made]
    bars.barh(names, list(made.values()))
    bars.axvline(
        1e3 * (each["decoded"] - each["files read"]), color="black", linestyle="--", label="decoding JPEG"
    )
    bars.invert_yaxis()
    bars.set(xlabel="ms a sample", title="one process")
    bars.legend(fontsize=8, loc="lower right")
    grown.plot(list(growth), [seconds for seconds, _ in growth.values()], marker="o", label="seconds")
    grown.plot(list(growth), [peak / 1e6 for _, peak in growth.values()], marker="s", label="peak memory, MB")
    grown.set(xscale="log", yscale="log", xlabel="samples", title="growth, float32")
    grown.grid(alpha=0.3)
    grown.legend(fontsize=8)
