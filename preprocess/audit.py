"""What is wrong with a data set, before two days are spent on it: `python preprocess/audit.py --ann_file ...`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from preprocess.datasets.annotations import ListLine, leaves_data_root, read_list
from preprocess.datasets.audit_checks import WARNINGS, AuditJob, Problem, check_sample
from preprocess.datasets.splits import read_class_list
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.files import write_json
from vidom.parallel.workers import each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["Audit", "audit", "main"]

_SHOWN = 20


@dataclass(frozen=True)
class Audit:
    """What was found in `samples` lines of a list; problems are in the order of the lines."""

    ann_file: Path
    data_root: Path
    samples: int
    problems: tuple[Problem, ...]

    @property
    def faults(self) -> tuple[Problem, ...]:
        """The problems that stop a later stage or falsify its result."""
        return tuple(problem for problem in self.problems if problem.kind not in WARNINGS)

    @property
    def summary(self) -> str:
        """Say how many samples are sound, how often each kind of problem occurs, and show the first ones."""
        sound = self.samples - len({fault.line for fault in self.faults})
        lines = [f"{sound:,} of {self.samples:,} samples of {self.ann_file} are sound."]
        for kind, count in Counter(problem.kind for problem in self.problems).most_common():
            lines.append(f"  {'warning' if kind in WARNINGS else 'fault':<8} {kind:<22} {count:>8,}")
        shown = sorted(self.problems, key=lambda problem: problem.kind in WARNINGS)
        lines += [f"  line {one.line}: {one.id}: {one.kind}: {one.text}" for one in shown[:_SHOWN]]
        if len(shown) > _SHOWN:
            lines.append(f"  ... and {len(shown) - _SHOWN:,} more; --report writes all of them.")
        return "\n".join(lines)


def audit(
    *,
    ann_file: Path,
    data_root: Path,
    labels: Path | None = None,
    report: Path | None = None,
    min_frames: int = 8,
    workers: int = 1,
) -> Audit:
    """Return what is wrong with the samples of the list after opening every one of them.

    With `labels`, a file of class names, labels are held against their number. Videos of fewer than
    `min_frames` frames, which are sampled with repetitions, get a warning. All problems go to `report` as JSON.
    Raises UsageError for a data root that is no folder, BadDataError for a list that is absent or empty.
    """
    if not data_root.is_dir():
        raise UsageError(
            f"The data root {data_root} is not a folder. Pass the one {ann_file} is relative to."
        )
    if workers < 1 or min_frames < 1:
        raise UsageError("--workers and --min_frames must be at least 1.")
    num_classes = len(read_class_list(labels)) if labels else None
    _, lines = read_list(ann_file)
    problems = list(_list_problems(lines, num_classes))
    jobs = [
        AuditJob(line.number, line.annotation, data_root, min_frames=min_frames)
        for line in lines
        if line.annotation and not leaves_data_root(line.annotation)
    ]
    with progress(total=len(jobs), unit="video", label="audit") as bar:
        for found in each_finished(check_sample, jobs, workers=workers if len(jobs) > 2 * workers else 1):
            problems += found
            bar.update()
    problems.sort(key=lambda problem: problem.line)
    result = Audit(ann_file, data_root, len(lines), tuple(problems))
    if report:
        _write_report(report, result)
    return result


def _list_problems(lines: Sequence[ListLine], num_classes: int | None) -> Iterator[Problem]:
    """Yield what the lines themselves tell."""
    first_lines: dict[str, int] = {}
    for line in lines:
        annotation = line.annotation
        if annotation is None:
            yield Problem(line.number, line.text[:120], "malformed_line", line.fault or "")
            continue
        if leaves_data_root(annotation):
            yield Problem(
                line.number, annotation.id, "outside_data_root", "the path is absolute or leads upwards"
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
    """Read the command line, audit, print what was found; 1 if there are faults."""
    parser = Parser(description="Open every video or folder of frames of a list and tell what is wrong.")
    parser.add_argument("--ann_file", type=Path, required=True, help="list to audit")
    parser.add_argument(
        "--data_root", type=Path, required=True, help="folder that the list's paths are relative to"
    )
    parser.add_argument("--labels", type=Path, help="class names, one a line, that labels are held against")
    parser.add_argument("--report", type=Path, help="JSON file for all that is found")
    parser.add_argument("--min_frames", type=int, default=8, help="warn of videos with fewer frames")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes that decode")
    result = audit(**vars(parser.parse_args(argv)))
    print(result.summary)
    return ExitCode.CHECK_FAILED if result.faults else ExitCode.DONE


if __name__ == "__main__":
    run(main)
