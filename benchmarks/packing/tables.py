"""The report of `benchmarks.packing`: tables, targets and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.measuring.report import Report, Table, Target
from benchmarks.measuring.settings import machine_state
from benchmarks.packing.variants import PLAIN, STAGES
from preprocess.sources.frames import RawFrames
from preprocess.tensors.pixels import Dtype

__all__ = ["DTYPES", "RECIPE", "plot_packing", "report_packing"]

RECIPE = "tsm_sthv2"
DTYPES: tuple[Dtype, ...] = ("float32", "uint8")
REQUIRED = {"float32": 2.0, "uint8": 4.0}
WORKERS = 1.8

_SAMPLE_NOTE = (
    "The bytes of each plain variant were checked against vidom's float32. The first one is a direct implementation: "
    "read, resize, crop, stack, normalise as mmcv does, transpose. The second is the same rearranged for speed: colour "
    "order swapped in the frames, each crop transposed at once. Targets are speedups over the first."
)
_STAGE_NOTE = (
    "Differences between successive stages. JPEG decoding is the lower bound for any variant with the same bytes. The "
    "checksum is computed by pack for the manifest, over each file."
)
_WORKERS_NOTE = (
    "The work of pack's workers except writing: tensors and their checksums. Timing starts after a fifth of the "
    "samples, when all workers are running; each has one thread. Starting two workers takes about a second."
)


def report_packing(
    each: dict[str, float],
    checksums: dict[str, float],
    rates: dict[tuple[str, int], float],
    scaling: dict[int, tuple[float, int]],
    sources: Sequence[RawFrames],
) -> Report:
    """Return the report.

    Args:
        each: seconds a sample by variant.
        checksums: seconds of a checksum by dtype.
        rates: samples/s by dtype and number of workers.
        scaling: (seconds, peak bytes) by number of samples.
        sources: the frame folders.
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
    grown = [(count, seconds, count / seconds, peak / 1e6) for count, (seconds, peak) in scaling.items()]
    return Report(
        name="packing",
        question="How long does it take to make a sample's tensor, without writing it, and which stages take the time?",
        tables=(
            Table(
                f"One sample of {RECIPE}, one process",
                ("variant", "ms", f"speedup over {PLAIN.partition(':')[0]}", "decoding share"),
                made,
                _SAMPLE_NOTE,
            ),
            Table(
                "Stages",
                ("stage", "ms", "share of float32"),
                _stages(each, checksums),
                _STAGE_NOTE,
            ),
            Table(
                "Workers",
                ("dtype", "one worker, samples/s", "two workers, samples/s", "speedup"),
                parallel,
                _WORKERS_NOTE,
            ),
            Table(
                "Scaling, float32, one process, with checksums",
                ("samples", "seconds", "samples/s", "peak MB"),
                grown,
            ),
        ),
        targets=(
            *(
                Target(f"{dtype}, speedup over plain", each[PLAIN] / each[f"vidom, {dtype}"], REQUIRED[dtype])
                for dtype in DTYPES
            ),
            *(
                Target(f"two workers, speedup over one, {dtype}", ratio, WORKERS)
                for dtype, _, _, ratio in parallel
            ),
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
        (f"checksum, {name} (not counted above)", 1e3 * spent, None) for name, spent in checksums.items()
    ]
    return rows


def plot_packing(figure: Any, *, each: dict[str, float], scaling: dict[int, tuple[float, int]]) -> None:
    """Plot the variants next to each other, and the scaling."""
    bars, grown = figure.subplots(1, 2)
    made = {name: 1e3 * seconds for name, seconds in each.items() if name not in STAGES}
    names = [name.partition(":")[0].replace("vidom, ", "vidom,\n") for name in made]
    bars.barh(names, list(made.values()))
    bars.axvline(
        1e3 * (each["decoded"] - each["files read"]), color="black", linestyle="--", label="decoding JPEG"
    )
    bars.invert_yaxis()
    bars.set(xlabel="ms per sample", title="one process")
    bars.legend(fontsize=8, loc="lower right")
    grown.plot(list(scaling), [seconds for seconds, _ in scaling.values()], marker="o", label="seconds")
    grown.plot(
        list(scaling), [peak / 1e6 for _, peak in scaling.values()], marker="s", label="peak memory, MB"
    )
    grown.set(xscale="log", yscale="log", xlabel="samples", title="scaling, float32")
    grown.grid(alpha=0.3)
    grown.legend(fontsize=8)
