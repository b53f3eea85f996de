"""What a benchmark found, as a table for people, JSON for programs and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidom.errors import ExitCode, UnavailableError
from vidom.files import atomic_path, write_json, write_text

__all__ = ["Bar", "Cell", "Report", "Table", "check_plotting", "markdown_table", "write_plot", "write_report"]

Cell = str | int | float | None
Plot = Callable[[Any], None]


@dataclass(frozen=True)
class Bar:
    """A number that was `found`, and the one it must reach or, without `at_least`, must not exceed."""

    what: str
    found: float
    wanted: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the bar is reached; a NaN reaches none."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    @property
    def line(self) -> str:
        """The bar in words, its verdict first."""
        verdict, sign = "PASSED" if self.met else "FAILED", "≥" if self.at_least else "≤"
        return f"{verdict} {self.what}: found {self.found:.4g}, wanted {sign} {self.wanted:.4g}"


@dataclass(frozen=True)
class Table:
    """Rows of cells under their columns. None is a cell that was not measured; `note` says what the numbers are."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The answer to one question: tables, bars, and the conditions under which they were measured."""

    name: str
    question: str
    tables: Sequence[Table]
    bars: Sequence[Bar]
    conditions: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        """DONE, or CHECK_FAILED where a bar is missed."""
        return ExitCode.DONE if all(bar.met for bar in self.bars) else ExitCode.CHECK_FAILED

    @property
    def text(self) -> str:
        """The report in Markdown."""
        parts = [f"# {self.name}", self.question]
        for table in self.tables:
            parts += [f"## {table.title}", markdown_table(table.columns, table.rows)]
            parts += [table.note] if table.note else []
        if self.bars:
            parts += ["## Bars", "\n".join(f"- {bar.line}" for bar in self.bars)]
        parts += ["## Conditions", "; ".join(f"{name} {value}" for name, value in self.conditions.items())]
        return "\n\n".join(parts) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a Markdown table, numbers to the right and to four digits, None as a dash.

    Raises ValueError for a row that has not a cell for each column.
    """
    numeric = [all(not isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)] or [
        False
    ] * len(columns)
    lines = [columns, ["---:" if right else "---" for right in numeric]]
    lines += [[_shown(cell) for _, cell in zip(columns, row, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        # Four digits, and no exponent in a count of many.
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:.0f}"
    return str(cell).replace("|", "/")


def check_plotting() -> None:
    """Raises UnavailableError where matplotlib is not installed; for the start of a command, before it measures."""
    if find_spec("matplotlib") is None:
        raise UnavailableError(
            "The picture needs matplotlib. Type: pip install matplotlib (make setup has it)."
        )


def write_report(report: Report, output_dir: Path, *, plot: Plot | None = None) -> None:
    """`output_dir` holds NAME.md and NAME.json, and NAME.png where `plot` draws on a matplotlib Figure.

    Raises UnavailableError without matplotlib; the table is written all the same.
    """
    bars = [{**asdict(bar), "met": bar.met} for bar in report.bars]
    document = _without_nan({"schema": 1, **asdict(report), "bars": bars})
    write_json(output_dir / f"{report.name}.json", document)
    write_text(output_dir / f"{report.name}.md", report.text)
    if plot is not None:
        write_plot(output_dir / f"{report.name}.png", plot)


def write_plot(path: Path, plot: Plot) -> None:
    """`path` is a PNG of what `plot` drew on a figure of 8 × 5 inches. Raises UnavailableError without matplotlib."""
    check_plotting()
    # A Figure of its own, without pyplot, draws with Agg and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    plot(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _without_nan(value: Any) -> Any:
    """Return the value with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
