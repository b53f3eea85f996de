"""All benchmarks: `python -m benchmarks` runs each command in its own process and refreshes RESULTS.md."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmarks.measuring.report import SCHEMA, markdown_table
from vidom.bounded_reading import read_json
from vidom.command import run
from vidom.errors import ExitCode
from vidom.files import write_text
from vidom.options import option, read_options

__all__ = ["NAMES", "BenchAllOptions", "Outcome", "bench_all", "main"]

_log = logging.getLogger(__name__)

Name = Literal[
    "inference",
    "passes",
    "packing",
    "evaluation",
    "scoring",
    "roofline",
    "extraction",
    "training",
    "learning",
]
NAMES: tuple[Name, ...] = get_args(Name)
RESULTS = Path(__file__).with_name("RESULTS.md")
_LINES = 12
_HEAD = (
    "# Results\n\nMeasured by `make bench-all`. Each section names the machine and its state; figures are next to the "
    "reports in the output folder."
)


@dataclass(frozen=True, kw_only=True)
class BenchAllOptions:
    """Run all benchmarks and refresh RESULTS.md."""

    only: tuple[Name, ...] = option(
        "benchmarks to run; of the others the last report is included", default=NAMES
    )
    output_dir: Path = option("folder of the reports and figures", default=Path("run/bench"))
    results: Path = option("file that collects all reports", default=RESULTS)
    frames: tuple[Path, ...] = option(
        "folders of extracted frames, one per video, for packing and evaluation", default=()
    )
    modelzoo_python: str | None = option(
        "an interpreter with ModelZoo's own numpy, for scoring", default=None
    )


@dataclass(frozen=True)
class Command:
    """A module of this package that writes a report; `takes` are options passed on, `needs` a required one."""

    name: Name
    module: str
    takes: tuple[str, ...] = ()
    needs: str | None = None


@dataclass(frozen=True)
class Outcome:
    """All targets as a table, and whether every command that was run wrote its report and every target is met."""

    targets: str
    passed: bool


COMMANDS = (
    Command("inference", "benchmarks.inference"),
    Command("passes", "benchmarks.surgery.passes"),
    Command("packing", "benchmarks.packing", takes=("frames",), needs="frames"),
    Command("evaluation", "benchmarks.evaluation", takes=("frames",)),
    Command("scoring", "benchmarks.scoring", takes=("modelzoo_python",)),
    Command("roofline", "benchmarks.roofline"),
    Command("extraction", "benchmarks.extraction"),
    Command("training", "benchmarks.training"),
    Command("learning", "benchmarks.learning"),
)


def bench_all(options: BenchAllOptions) -> Outcome:
    """Run the benchmarks and write all targets and reports to the results file.

    Each command is a separate process with its own memory and settings; if one fails, the others still run. Of those
    that are not run, the report in the output folder is included.
    """
    folder = options.output_dir
    given: dict[str, tuple[str, ...]] = {
        "frames": tuple(map(str, options.frames)),
        "modelzoo_python": (options.modelzoo_python,) if options.modelzoo_python else (),
    }
    unmeasured: dict[str, str] = {}
    failed = False
    for command in COMMANDS:
        if command.name not in options.only:
            continue
        for suffix in (".md", ".json", ".png"):
            (folder / f"{command.name}{suffix}").unlink(missing_ok=True)
        if command.needs is not None and not given[command.needs]:
            unmeasured[command.name] = f"--{command.needs} is required."
        elif why := _run(command, folder, given):
            unmeasured[command.name] = why
            failed = True
    rows = _targets(folder)
    table = markdown_table(("command", "target", "measured", "required", ""), rows)
    sections = (_section(name, folder, unmeasured.get(name)) for name in NAMES)
    write_text(options.results, "\n\n".join([_HEAD, "## Targets", table, *sections]) + "\n")
    return Outcome(table, not failed and all(status == "PASSED" for *_, status in rows))


def _run(command: Command, output_dir: Path, given: Mapping[str, Sequence[str]]) -> str:
    """Return why there is no report, empty where there is one."""
    _log.info(f"{command.name} …")
    argv = [sys.executable, "-m", command.module, "--output_dir", str(output_dir)]
    for name in command.takes:
        argv += [f"--{name}", *given[name]] if given[name] else []
    last: deque[str] = deque(maxlen=_LINES)
    # Its stdout is in its report as well; here it would hide the targets.
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            last.append(line)
    if (output_dir / f"{command.name}.json").is_file():
        return ""
    return f"the command ended with {process.returncode}.\n\n```\n{''.join(last).strip()}\n```"


def _section(name: str, output_dir: Path, unmeasured: str | None) -> str:
    report = output_dir / f"{name}.md"
    if not report.is_file():
        return f"## {name}\n\n" + (f"Not measured: {unmeasured}" if unmeasured else "Not run.")
    lines = report.read_text(encoding="utf-8").strip().splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines)


def _targets(output_dir: Path) -> list[tuple[str, str, float, str, str]]:
    """Return command, target, measured and required number and status of all reports that exist."""
    rows: list[tuple[str, str, float, str, str]] = []
    for name in NAMES:
        path = output_dir / f"{name}.json"
        report = read_json(path, what="report") if path.is_file() else {}
        # Reports of older versions have other keys.
        for target in report["targets"] if report.get("schema") == SCHEMA else ():
            required = f"{'≥' if target['at_least'] else '≤'} {target['required']:g}"
            status = "PASSED" if target["met"] else "FAILED"
            rows.append((name, target["what"], target["measured"], required, status))
    return rows


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Run the benchmarks and print all targets; 1 if one is missed."""
    outcome = bench_all(read_options(BenchAllOptions, argv, prog="python -m benchmarks"))
    print(outcome.targets)
    print("PASSED" if outcome.passed else "FAILED")
    return ExitCode.DONE if outcome.passed else ExitCode.CHECK_FAILED


if __name__ == "__main__":
    run(main)
