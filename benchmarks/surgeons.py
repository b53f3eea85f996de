"""vidom's passes and auto-optimizer compared on one exported graph: `python -m benchmarks.surgeons --model G.onnx …`.

A small TSM is enough to compare: `python export/to_onnx.py --recipe tsm_sthv2 --checkpoint seeded:0
--set views.short_side=64 --set views.crop_size=64 --output G.onnx` exports one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.surgeons_report import document, markdown
from benchmarks.surgeons_rows import Conditions, Graph, conditions, measured_times, sample_of
from export.modify_onnx import modify_onnx
from export.record import read_record
from export.second_surgeon import find_surgeon
from export.surgery.census import census
from export.surgery.model_file import load_model
from vidom.command import Parser, log, run
from vidom.errors import ExitCode, UsageError
from vidom.files import write_json, write_text

__all__ = ["Comparison", "main", "surgeons"]


@dataclass(frozen=True)
class Surgery:
    """A row of the table: the passes of vidom, None for all, and whether auto-optimizer operates after them."""

    name: str
    file: str
    passes: tuple[str, ...] | None
    auto_optimizer: bool


SURGERIES = (
    Surgery("auto-optimizer", "auto_optimizer.onnx", (), auto_optimizer=True),
    Surgery("vidom", "vidom.onnx", None, auto_optimizer=False),
    Surgery("vidom, then auto-optimizer", "both.onnx", None, auto_optimizer=True),
    Surgery(
        "vidom's fold-constants and zero-blanks, then auto-optimizer",
        "zero_blanks_auto_optimizer.onnx",
        ("fold-constants", "zero-blanks"),
        auto_optimizer=True,
    ),
)

CONTROL = "as exported, once more"


@dataclass(frozen=True)
class Comparison:
    """The graphs of the table, as exported first, under what they were measured, and the Markdown that shows them."""

    graphs: tuple[Graph, ...]
    conditions: Conditions
    text: str

    @property
    def passed(self) -> bool:
        """Whether every graph means the same as the exported one."""
        return all(graph.passed for graph in self.graphs)


def surgeons(*, model: Path, output_dir: Path, rounds: int = 20, threads: int = 1) -> Comparison:
    """`output_dir` holds `surgeons.md` and `.json`, which compare both surgeons on `model`, and all graphs.

    Each keeps a row for each clip, so that outputs can be compared as they are. All graphs run `rounds` times in turn
    on the same random sample; the fastest run of each counts. Raises UsageError for numbers that are none and what
    surgery raises, Lacking without auto-optimizer among it.
    """
    if rounds < 1 or threads < 1:
        raise UsageError(f"--rounds and --threads must be at least 1, found {rounds} and {threads}.")
    find_surgeon()
    operators = census(load_model(model))
    files, operated = [model, model], [Graph(name, operators) for name in ("as exported", CONTROL)]
    for surgery in SURGERIES:
        log(f"{surgery.name} …")
        graph, path = _operated(surgery, model, output_dir)
        files.append(path)
        operated.append(graph)
    runnable = [path if graph.passed else None for path, graph in zip(files, operated, strict=True)]
    log(f"{rounds} rounds with and {rounds} without ONNX Runtime's own optimisation …")
    sample = sample_of(model)
    times = measured_times(runnable, sample, rounds=rounds, threads=threads)
    graphs = tuple(graph.timed(*pair) for graph, pair in zip(operated, times, strict=True))
    under = conditions(model, sample, rounds=rounds, threads=threads)
    text = markdown(graphs, under)
    write_text(output_dir / "surgeons.md", text)
    write_json(output_dir / "surgeons.json", document(graphs, under))
    return Comparison(graphs, under, text)


def _operated(surgery: Surgery, model: Path, output_dir: Path) -> tuple[Graph, Path]:
    path = output_dir / surgery.file
    done = modify_onnx(
        model=model,
        output=path,
        passes=surgery.passes,
        average_clips="keep",
        auto_optimizer=() if surgery.auto_optimizer else None,
    )
    versions = read_record(path).get("auto_optimizer", {}).get("versions", {}) if path.exists() else {}
    graph = Graph(
        surgery.name, done.census_after, done.changed_by, done.equivalence.differences, versions=versions
    )
    return graph, path


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, compare and print the table."""
    parser = Parser(
        prog="python -m benchmarks.surgeons",
        description="Operators, time and parity of one graph after vidom's passes, auto-optimizer, and both.",
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the graph as exported")
    add("--output_dir", type=Path, required=True, help="where the graphs and the table go")
    add("--rounds", type=int, default=20, help="runs of each graph, in turn; the fastest counts")
    add("--threads", type=int, default=1, help="threads of ONNX Runtime")
    options = parser.parse_args(argv)
    found = surgeons(
        model=options.model, output_dir=options.output_dir, rounds=options.rounds, threads=options.threads
    )
    print(found.text, end="")
    log(f"table and numbers are {options.output_dir / 'surgeons'}.md and .json")
    return ExitCode.DONE if found.passed else ExitCode.JUDGEMENT_FAILED


if __name__ == "__main__":
    run(main)
