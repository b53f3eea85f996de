"""A figure of the batch table's speeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.batch_table.row import Row, Settings
from benchmarks.measuring.report import write_plot

__all__ = ["plot"]

_MEASURED, _END_TO_END, _PUBLISHED = "#0b6e99", "#c05a1a", "#6b6b6b"


def plot(path: Path, settings: Settings, rows: Sequence[Row]) -> None:
    """Write a PNG of samples/s by batch size; published speeds have separate axes."""
    write_plot(path, partial(_plot, settings=settings, rows=rows))


def _plot(figure: Any, settings: Settings, rows: Sequence[Row]) -> None:
    published = [entry for entry in settings.recipe.published if entry.fps]
    figure.set_size_inches(7.5 + 4.5 * bool(published), 4.8)
    axes = figure.subplots(
        1, 2 if published else 1, squeeze=False, width_ratios=[5, 3][: 1 + bool(published)]
    )[0]
    figure.suptitle(
        "\n".join(
            textwrap.wrap(
                f"{settings.recipe.name}, {rows[0].engine}, {rows[0].chip}", 70 + 40 * bool(published)
            )
        ),
        fontsize=11,
    )
    batches = [row.batch_size for row in rows]
    _line(axes[0], batches, [row.fps for row in rows], _MEASURED, "fps: compute only")
    ends = {row.batch_size: row.samples_per_second for row in rows if row.samples_per_second is not None}
    if ends:
        _line(axes[0], list(ends), list(ends.values()), _END_TO_END, "end to end, with reading and copies")
    _finish(axes[0], "measured", batches)
    for entry in published:
        _line(
            axes[1],
            list(entry.fps),
            list(entry.fps.values()),
            _PUBLISHED,
            f"{entry.chip or 'chip unknown'}, fps",
        )
        _finish(axes[1], "published, not measured here", list(entry.fps))


def _line(axes: Any, batches: Sequence[int], values: Sequence[float], colour: str, label: str) -> None:
    axes.plot(batches, values, marker="o", color=colour, label=label)
    for batch, value in zip(batches, values, strict=True):
        axes.annotate(
            f"{value:.4g}",
            (batch, value),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )


def _finish(axes: Any, title: str, batches: Sequence[int]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.set_xlabel("batch size")
    axes.set_ylabel("samples/s")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
