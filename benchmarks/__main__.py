"""All questions at once: `python -m benchmarks` runs each command in its own process and refreshes RESULTS.md."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.report import markdown_table
from vidom.command import Parser, run
from vidom.errors import ExitCode
from vidom.files import read_json, write_text

__all__ = ["NAMES", "Outcome", "bench_all", "main"]

_log = logging.getLogger(__name__)

RESULTS = Path(__file__).with_name("RESULTS.md")
_LINES = 12
_HEAD = (
    "# Results\n\nWhat `make bench-all` found. Each section names the machine and its state; pictures lie beside the "
    "reports in the output folder."
)


@dataclass(frozen=True)
class Command:
    """A module of this room, which writes a report of its name; `takes` are options handed on, `needs` one without
    which it is not run.
    """

    name: str
    takes: tuple[str, ...] = ()
    needs: str | None = None


@dataclass(frozen=True)
class Outcome:
    """All bars as a table, and whether every command that was run came to its report and every bar is met."""

    bars: str
    passed: bool


COMMANDS = (
    Command("inference"),
    Command("passes"),
    Command("packing", takes=("frames",), needs="frames"),
    Command("evaluation", takes=("frames",)),
    Command("scoring", takes=("modelzoo_python",)),
    Command("roofline"),
    Command("extraction"),
)
NAMES = tuple(command.name for command in COMMANDS)


def bench_all(
    *,
    output_dir: Path,
    only: Sequence[str] = NAMES,
    results: Path = RESULTS,
    handed_on: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """`results` holds the reports of all commands, and before them all bars; the commands in `only` are run.

    Each is a process of its own, so that its memory and its settings are too; when one fails, the others run all the
    same. Of those not run, what `output_dir` holds from before is told. `handed_on` are the words of options that
    commands take.
    """
    words = {name: tuple(given) for name, given in (handed_on or {}).items() if given}
    unmeasured: dict[str, str] = {}
    failed = False
    for command in COMMANDS:
        if command.name not in only:
            continue
        for suffix in (".md", ".json", ".png"):
            (output_dir / f"{command.name}{suffix}").unlink(missing_ok=True)
        if command.needs is not None and command.needs not in words:
            unmeasured[command.name] = f"it needs --{command.needs}."
        elif why := _run(command, output_dir, words):
            unmeasured[command.name] = why
            failed = True
    bars = _bars(output_dir)
    text = markdown_table(("command", "bar", "found", "wanted", ""), bars)
    sections = (_section(name, output_dir, unmeasured.get(name)) for name in NAMES)
    write_text(results, "\n\n".join([_HEAD, "## All bars", text, *sections]) + "\n")
    return Outcome(text, not failed and all(verdict == "PASSED" for *_, verdict in bars))


def _run(command: Command, output_dir: Path, words: Mapping[str, Sequence[str]]) -> str:
    """Return why there is no report, empty where there is one."""
    _log.info(f"{command.name} …")
    argv = [sys.executable, "-m", f"benchmarks.{command.name}", "--output_dir", str(output_dir)]
    for option in command.takes:
        argv += [f"--{option}", *words[option]] if option in words else []
    last: deque[str] = deque(maxlen=_LINES)
    # What it prints stands in its report as well; here it would bury the bars.
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


def _bars(output_dir: Path) -> list[tuple[str, str, float, str, str]]:
    """Return command, bar, number found, number wanted and verdict of all reports that there are."""
    rows = []
    for name in NAMES:
        path = output_dir / f"{name}.json"
        for bar in read_json(path, what="report")["bars"] if path.is_file() else ():
            wanted = f"{'≥' if bar['at_least'] else '≤'} {bar['wanted']:g}"
            rows.append((name, bar["what"], bar["found"], wanted, "PASSED" if bar["met"] else "FAILED"))
    return rows


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, run the commands, print all bars; 1 if one is missed."""
    parser = Parser(prog="python -m benchmarks", description="Run all benchmarks and refresh RESULTS.md.")
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=NAMES,
        default=list(NAMES),
        help="commands to run; of the others the last is told",
    )
    add("--output_dir", type=Path, default=Path("run/bench"), help="where reports and pictures go")
    add("--results", type=Path, default=RESULTS, help="the file that tells all")
    add(
        "--frames",
        nargs="+",
        default=[],
        help="folders of extracted frames, a video each, for packing and evaluation",
    )
    add(
        "--modelzoo_python", nargs=1, default=[], help="an interpreter with ModelZoo's own numpy, for scoring"
    )
    options = parser.parse_args(argv)
    outcome = bench_all(
        output_dir=options.output_dir,
        only=options.only,
        results=options.results,
        handed_on={"frames": options.frames, "modelzoo_python": options.modelzoo_python},
    )
    print(outcome.bars)
    print("PASSED" if outcome.passed else "FAILED")
    return ExitCode.DONE if outcome.passed else ExitCode.CHECK_FAILED


if __name__ == "__main__":
    run(main)
