"""Check a data set before long runs are started on it: `python preprocess/audit.py --ann_file ...`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from preprocess.datasets.annotations import ListLine, leaves_data_root, read_list
from preprocess.datasets.audit_checks import WARNINGS, AuditJob, Problem, check_sample
from preprocess.datasets.splits import read_class_list
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.files import write_json
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options
from vidom.parallel.workers import each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores
from vidom.wording import shown

__all__ = ["Audit", "AuditOptions", "audit", "main"]

_SHOWN = 20


@dataclass(frozen=True)
class Audit:
    """The problems in the `samples` lines of a list, in the order of the lines."""

    ann_file: Path
    data_root: Path
    samples: int
    problems: tuple[Problem, ...]

    @property
    def faults(self) -> tuple[Problem, ...]:
        """The problems that stop a later stage or corrupt its result."""
        return tuple(problem for problem in self.problems if problem.kind not in WARNINGS)

    @property
    def summary(self) -> str:
        """Text with the number of valid samples, the count of each kind of problem, and the first problems."""
        valid = self.samples - len({fault.line for fault in self.faults})
        lines = [f"{valid:,} of {self.samples:,} samples of {self.ann_file} are valid."]
        for kind, count in Counter(problem.kind for problem in self.problems).most_common():
            lines.append(f"  {'warning' if kind in WARNINGS else 'fault':<8} {kind:<22} {count:>8,}")
        worst_first = sorted(self.problems, key=lambda problem: problem.kind in WARNINGS)
        for one in worst_first[:_SHOWN]:
            lines.append("  " + shown(f"line {one.line}: {one.id}: {one.kind}: {one.text}", 1000))
        if len(worst_first) > _SHOWN:
            lines.append(f"  ... and {len(worst_first) - _SHOWN:,} more; --report writes all of them.")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Open every video or frame folder of a list and report problems; with a recipe, also labels that it does not have.

    A recipe says how frames are named too.
    """

    ann_file: Path = option("list to check")
    data_root: Path = option("folder that the paths of the list are relative to")
    recipe: Recipe | None = recipe_option(required=False)
    labels: Path | None = option("class names, one per line, to check labels against", default=None)
    report: Path | None = option("JSON file for all problems", default=None)
    min_frames: int = option("warn about videos with fewer frames, which are sampled repeatedly", default=8)
    workers: int | None = option("processes that decode (default: one per core)", default=None)

    def __post_init__(self) -> None:
        if self.min_frames < 1 or (self.workers is not None and self.workers < 1):
            raise UsageError("--workers and --min_frames must be at least 1.")


def audit(options: AuditOptions) -> Audit:
    """Open every sample of the list and return the problems found; write them to `report` too if given.

    Raises UsageError if the data root is not a folder, BadDataError for a list that is absent or empty.
    """
    if not options.data_root.is_dir():
        raise UsageError(
            f"The data root {options.data_root} is not a folder. Pass the folder that {options.ann_file} is relative "
            "to."
        )
    recipe = options.recipe
    num_classes = recipe.dataset.num_classes if recipe else None
    if options.labels:
        num_classes = len(read_class_list(options.labels))
    naming = recipe.dataset.frame_naming if recipe else FrameNaming()
    _, lines = read_list(options.ann_file)
    problems = list(_list_problems(lines, num_classes))
    jobs = [
        AuditJob(line.number, line.annotation, options.data_root, naming, options.min_frames)
        for line in lines
        if line.annotation and not leaves_data_root(line.annotation)
    ]
    workers = options.workers or usable_cores()
    with progress(total=len(jobs), unit="video", label="audit") as bar:
        # Starting processes takes longer than a few videos.
        for found in each_finished(check_sample, jobs, workers=workers if len(jobs) > 2 * workers else 1):
            problems += found
            bar.update()
    problems.sort(key=lambda problem: problem.line)
    result = Audit(options.ann_file, options.data_root, len(lines), tuple(problems))
    if options.report:
        _write_report(options.report, result)
    return result


def _list_problems(lines: Sequence[ListLine], num_classes: int | None) -> Iterator[Problem]:
    """Yield the problems that can be found without opening the samples."""
    first_lines: dict[str, int] = {}
    for line in lines:
        annotation = line.annotation
        if annotation is None:
            yield Problem(line.number, line.text[:120], "malformed_line", line.fault or "")
            continue
        if leaves_data_root(annotation):
            yield Problem(
                line.number, annotation.id, "outside_data_root", "the path is absolute or contains .."
            )
        first = first_lines.setdefault(annotation.id, line.number)
        if first != line.number:
            yield Problem(line.number, annotation.id, "duplicate_id", f"the same sample as in line {first}")
        if num_classes is not None and annotation.label >= num_classes:
            text = f"label {annotation.label}, but the classes are 0 to {num_classes - 1}"
            yield Problem(line.number, annotation.id, "label_outside_classes", text)


def _write_report(path: Path, result: Audit) -> None:
    write_json(
        path,
        {
            "version": 1,
            "ann_file": str(result.ann_file),
            "data_root": str(result.data_root),
            "samples": result.samples,
            "faults": len(result.faults),
            "warnings": len(result.problems) - len(result.faults),
            "by_kind": dict(Counter(problem.kind for problem in result.problems)),
            "problems": [
                {**asdict(problem), "severity": "warning" if problem.kind in WARNINGS else "fault"}
                for problem in result.problems
            ],
        },
    )


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, audit, and print the problems; 1 if there are faults."""
    result = audit(read_options(AuditOptions, argv))
    print(result.summary)
    return ExitCode.CHECK_FAILED if result.faults else ExitCode.DONE


if __name__ == "__main__":
    run(main)
