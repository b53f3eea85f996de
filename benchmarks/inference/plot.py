"""The figure of the inference benchmark: seconds of each variant, time and memory by batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.inference.rows import Measured
from benchmarks.inference.scaling import Point, Scaling

__all__ = ["plot_inference"]

_COLOURS = {"torch eager": "#8c8c8c", "ONNX Runtime": "#0b6e99", "OpenVINO": "#c05a1a"}
_MARKS = "osv^D"


def plot_inference(figure: Any, cases: Sequence[Measured], scaling: Scaling | None) -> None:
    """Plot a bar for each variant of each case and, below, the scaling."""
    rows = len(cases) + bool(scaling)
    figure.set_size_inches(10, 1.2 + 3.1 * rows)
    grid = figure.add_gridspec(rows, 2)
    for number, case in enumerate(cases):
        _bars(figure.add_subplot(grid[number, :]), case)
    if scaling:
        _lines(figure.add_subplot(grid[-1, 0]), scaling, "ms per sample", lambda p: 1e3 * p.seconds / p.batch)
        _lines(figure.add_subplot(grid[-1, 1]), scaling, "peak memory, GB", lambda p: p.peak_bytes / 1e9)


def _bars(axes: Any, case: Measured) -> None:
    rows = case.rows[::-1]
    names = [row.variant.name for row in rows]
    bars = axes.barh(
        names, [row.seconds for row in rows], color=[_COLOURS[row.variant.engine] for row in rows]
    )
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axes.set_title(case.subject.name, fontsize=10)
    axes.set_xlabel("seconds per batch")
    axes.margins(x=0.1)
    axes.tick_params(labelsize=8)


def _lines(axes: Any, scaling: Scaling, label: str, value: Callable[[Point], float]) -> None:
    for variant, mark in zip(scaling.variants, _MARKS, strict=False):
        points = [point for point in scaling.points if point.variant == variant]
        axes.plot([p.batch for p in points], [value(p) for p in points], marker=mark, label=variant)
    axes.set_title(f"{scaling.recipe.name}, {scaling.recipe.views.crop_size} px", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({point.batch for point in scaling.points}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
