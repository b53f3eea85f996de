"""The inference benchmark as a picture: seconds of each way, and how time and memory grow with the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.inference.growth import Growth, Point
from benchmarks.inference.rows import Measured

__all__ = ["draw"]

_COLOURS = {"torch eager": "#8c8c8c", "ONNX Runtime": "#0b6e99", "OpenVINO": "#c05a1a"}
_MARKS = "osv^D"


def draw(figure: Any, cases: Sequence[Measured], growth: Growth | None) -> None:
    """The figure shows a bar for each way of each case and, below them, the growth."""
    rows = len(cases) + bool(growth)
    figure.set_size_inches(10, 1.2 + 3.1 * rows)
    grid = figure.add_gridspec(rows, 2)
    for number, case in enumerate(cases):
        _bars(figure.add_subplot(grid[number, :]), case)
    if growth:
        _lines(figure.add_subplot(grid[-1, 0]), growth, "ms a sample", lambda p: 1e3 * p.seconds / p.batch)
        _lines(figure.add_subplot(grid[-1, 1]), growth, "peak memory, GB", lambda p: p.peak_bytes / 1e9)


def _bars(axes: Any, case: Measured) -> None:
    rows = case.rows[::-1]
    names = [row.way.name for row in rows]
    bars = axes.barh(names, [row.seconds for row in rows], color=[_COLOURS[row.way.engine] for row in rows])
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axes.set_title(case.subject.name, fontsize=10)
    axes.set_xlabel("seconds a batch")
    axes.margins(x=0.1)
    axes.tick_params(labelsize=8)


def _lines(axes: Any, growth: Growth, label: str, value: Callable[[Point], float]) -> None:
    for way, mark in zip(growth.ways, _MARKS, strict=False):
        points = [point for point in growth.points if point.way == way]
        axes.plot([p.batch for p in points], [value(p) for p in points], marker=mark, label=way)
    axes.set_title(f"{growth.recipe.name}, {growth.recipe.views.crop_size} px", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({point.batch for point in growth.points}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("batch size")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
