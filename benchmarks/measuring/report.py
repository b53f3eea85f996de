"""The report of a benchmark: Markdown tables, JSON and a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vidom.errors import ExitCode, UnavailableError
from vidom.files import atomic_path, write_json, write_text
from vidom.folder_lock import locked_folder

__all__ = [
    "SCHEMA",
    "Cell",
    "Report",
    "Table",
    "Target",
    "check_plotting",
    "markdown_table",
    "reported",
    "write_plot",
    "write_report",
]

SCHEMA = 2
"""Version of the JSON file."""
Cell = str | int | float | None
Plot = Callable[[Any], None]


@dataclass(frozen=True)
class Target:
    """A number that was `measured`, and the one it must reach or, without `at_least`, must not exceed."""

    what: str
    measured: float
    required: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the target is met; a NaN meets none."""
        return self.measured >= self.required if self.at_least else self.measured <= self.required

    @property
    def line(self) -> str:
        """The target in one line, PASSED or FAILED first."""
        status, sign = "PASSED" if self.met else "FAILED", "≥" if self.at_least else "≤"
        return f"{status} {self.what}: measured {self.measured:.4g}, required {sign} {self.required:.4g}"


@dataclass(frozen=True)
class Table:
    """Rows of cells under their columns. None is a cell that was not measured; `note` explains the numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The answer to one question: tables, targets and the measuring conditions."""

    name: str
    question: str
    tables: Sequence[Table]
    targets: Sequence[Target]
    conditions: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        """DONE, or CHECK_FAILED if a target is missed."""
        return ExitCode.DONE if all(target.met for target in self.targets) else ExitCode.CHECK_FAILED

    @property
    def text(self) -> str:
        """The report in Markdown."""
        parts = [f"# {self.name}", self.question]
        for table in self.tables:
            parts += [f"## {table.title}", markdown_table(table.columns, table.rows)]
            parts += [table.note] if table.note else []
        if self.targets:
            parts += ["## Targets", "\n".join(f"- {target.line}" for target in self.targets)]
        parts += ["## Conditions", "; ".join(f"{name} {value}" for name, value in self.conditions.items())]
        return "\n\n".join(parts) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a Markdown table with numbers right-aligned and to four digits, None as a dash.

    Raises ValueError for a row whose number of cells is not that of the columns.
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
        # Four digits, and no exponent in large counts.
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:.0f}"
    return str(cell).replace("|", "/")


def check_plotting() -> None:
    """Raise UnavailableError if matplotlib is not installed; called before a command measures."""
    if find_spec("matplotlib") is None:
        raise UnavailableError(
            "The figure needs matplotlib. Run: pip install matplotlib (included in make setup)."
        )


class _WithFolder(Protocol):
    @property
    def output_dir(self) -> Path: ...


_Options = TypeVar("_Options", bound=_WithFolder)


def reported(measure: Callable[[_Options], Report], options: _Options) -> ExitCode:
    """Measure in the output folder of the options, print the report and return its exit code.

    Raises UnavailableError while another process works in the folder, and what `measure` raises.
    """
    with locked_folder(options.output_dir):
        report = measure(options)
    print(report.text, end="")
    return report.exit_code


def write_report(report: Report, output_dir: Path, *, plot: Plot | None = None) -> None:
    """Write NAME.md and NAME.json to `output_dir`, and NAME.png if `plot` draws on a matplotlib Figure.

    Raises UnavailableError without matplotlib, after the tables are written.
    """
    targets = [{**asdict(target), "met": target.met} for target in report.targets]
    document = _without_nan({"schema": SCHEMA, **asdict(report), "targets": targets})
    write_json(output_dir / f"{report.name}.json", document)
    write_text(output_dir / f"{report.name}.md", report.text)
    if plot is not None:
        write_plot(output_dir / f"{report.name}.png", plot)


def write_plot(path: Path, plot: Plot) -> None:
    """Write a PNG of a figure of 8 × 5 inches that `plot` draws on. Raises UnavailableError without matplotlib."""
    check_plotting()
    # A Figure without pyplot uses Agg and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    plot(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _without_nan(value: Any) -> Any:
    """Return the value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
