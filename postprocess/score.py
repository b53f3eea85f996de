"""Score an engine's outputs against the labels: `python postprocess/score.py --result_path … --info_path …`.

Prints top-1 and top-5 as ModelZoo's TSM_postprocess.py does and writes `metrics.json`.
"""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from postprocess.gather import gather, peek
from postprocess.matching import Match, check_coverage, find_store, in_order, match_by_number, match_by_store
from postprocess.metrics import Metrics
from postprocess.outputs import find_outputs, metrics_path
from postprocess.scored import accuracy_remarks, accuracy_text, check_labels, write_scored
from postprocess.view_scores import sample_scores
from vidom.command import Parser, run
from vidom.errors import CheckFailedError, UsageError
from vidom.files import read_lines, write_text
from vidom.formats.clip_store import ClipStore, read_info
from vidom.formats.mindspore_310 import Accuracy, accuracy_line
from vidom.wording import some

__all__ = ["Scores", "main", "score"]

_log = logging.getLogger(__name__)

THRESHOLDS = ("top1", "top5", "mean_class_accuracy")


@dataclass(frozen=True)
class Scores:
    """The metrics of a run and where they were written.

    `names` are the class names where known, `remarks` what a reader should know beside the numbers, `missed`
    the thresholds that were not reached, one phrase each.
    """

    metrics: Metrics
    names: tuple[str, ...]
    metrics_path: Path
    remarks: tuple[str, ...]
    missed: tuple[str, ...]


def score(
    *,
    result_path: Path | str,
    info_path: Path | str,
    thresholds: Mapping[str, float] | None = None,
    output: Path | str | None = None,
    labels: Path | str | None = None,
    num_classes: int | None = None,
) -> Scores:
    """`output` holds the metrics of the results and they are returned, whether thresholds are reached or not.

    `result_path` is a summary or a result folder, `info_path` the `index label` list. Thresholds are fractions
    by name (top1, top5, mean_class_accuracy). `output` is by default `NAME_metrics.json` beside the summary
    `NAME_summary.json`. `labels` is a file of class names, one a line, by default those of the clip store;
    `num_classes` is needed for BIN outputs where neither is known.

    The views of a sample that are files of their own are averaged as their clip store says.

    The file's bytes depend on scores, labels and class names only, not on batch size, file format, order or
    place. Raises UsageError for an unknown threshold or contradicting class counts, BadDataError as
    `find_outputs`, `check_coverage`, `gather` and `sample_scores` do, and when a label is no class.
    """
    thresholds = thresholds or {}
    _check_thresholds(thresholds)
    wanted = read_info(info_path)
    outputs = find_outputs(result_path)
    store = find_store(info_path, outputs)
    names, classes = _classes(labels, store, num_classes)
    if store is None:
        numbered = in_order(outputs)
        rows, columns = peek(numbered[0][1], classes)
        matches = match_by_number(numbered, wanted, rows=rows)
    else:
        _, columns = peek(outputs[0], classes)
        matches = match_by_store(outputs, store)
    classes = columns if classes is None else classes
    check_coverage(matches, wanted, store)
    check_labels(wanted, classes, info_path)
    scores = gather(matches, wanted, classes=classes)
    if store is not None and store.header.average_clips:
        scores = sample_scores(scores, store.header.average_clips)
    target = Path(output) if output is not None else metrics_path(result_path)
    scored = write_scored(target, scores, wanted, names=names)
    return Scores(
        metrics=scored.metrics,
        names=names,
        metrics_path=target,
        remarks=(*_remarks(matches, store), *scored.remarks),
        missed=_missed(scored.metrics, thresholds),
    )


def _check_thresholds(thresholds: Mapping[str, float]) -> None:
    for name, value in thresholds.items():
        if name not in THRESHOLDS:
            near = difflib.get_close_matches(name, THRESHOLDS, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"There is no threshold {name!r}, only {', '.join(THRESHOLDS)}.{meant}")
        if not 0 <= value <= 1:
            raise UsageError(f"The threshold {name}={value} must be a fraction from 0 to 1, 61 % is 0.61.")


def _classes(
    labels: Path | str | None, store: ClipStore | None, num_classes: int | None
) -> tuple[tuple[str, ...], int | None]:
    if num_classes is not None and num_classes < 1:
        raise UsageError(f"--num_classes {num_classes} must be 1 or more.")
    names = read_lines(labels, what="file of class names") if labels is not None else ()
    counts = {"--num_classes": num_classes, f"--labels {labels}": len(names)}
    if store is not None:
        counts[f"the clip store {store.folder}"] = len(store.labels)
        names = names or store.labels
    known = {source: count for source, count in counts.items() if count}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{count} by {source}" for source, count in known.items())
        raise UsageError(f"The number of classes is contradictory: {told}. Leave the wrong one out.")
    return names, next(iter(known.values()), None)


def _missed(metrics: Metrics, thresholds: Mapping[str, float]) -> tuple[str, ...]:
    reached = {
        "top1": metrics.top1.value,
        "top5": metrics.top5.value,
        "mean_class_accuracy": metrics.mean_class_accuracy,
    }
    return tuple(
        f"{name} is {reached[name]:.4f}, below {wanted:g}"
        for name, wanted in thresholds.items()
        if reached[name] < wanted
    )


def _remarks(matches: Sequence[Match], store: ClipStore | None) -> list[str]:
    remarks = []
    if padding := sum(match.padding for match in matches):
        remarks.append(f"{padding} rows of padding were left out.")
    if store is not None and store.header.average_clips:
        kind = {"prob": "probabilities", "score": "logits"}[store.header.average_clips]
        remarks.append(f"The {kind} of each sample's {store.header.views_per_sample} views were averaged.")
    if store is not None and store.skipped:
        remarks.append(
            f"{len(store.skipped)} samples could not be read when the store was packed and are not counted: "
            f"{some(f'{skip.index} ({skip.id})' for skip in store.skipped)}."
        )
    return remarks


def _threshold(word: str) -> tuple[str, float]:
    name, _, value = word.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=FRACTION such as top1=0.61, not {word!r}") from None


def main(argv: Sequence[str] | None = None) -> int | None:
    """The two accuracies are printed; a threshold that is not reached raises CheckFailedError after that."""
    parser = Parser(description="Score an engine's outputs against the labels.")
    # What is not given is left to `score`, whose defaults are in its docstring.
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add("--result_path", required=True, help="NAME_summary.json of the run, or its result folder")
    add("--info_path", required=True, help="list of `index label` lines, such as sthv2.info")
    add("--threshold", nargs="+", action="extend", type=_threshold, metavar="NAME=FRACTION",
        help=f"exit 1 when an accuracy is lower; names: {', '.join(THRESHOLDS)}")  # fmt: skip
    add("--output", help="where metrics.json goes (default: NAME_metrics.json beside the summary)")
    add("--labels", help="file of class names, one a line (default: the clip store's)")
    add("--num_classes", type=int, help="needed for BIN outputs without clip store and --labels")
    options = vars(parser.parse_args(argv))
    scores = score(thresholds=dict(options.pop("threshold", ())), **options)
    metrics = scores.metrics
    print(accuracy_text(metrics))
    for remark in (*accuracy_remarks(metrics), *scores.remarks):
        _log.info(remark)
    _log.info(f"metrics written to {scores.metrics_path}")
    if str(options["info_path"]).endswith(".npy"):
        line = accuracy_line(Accuracy(metrics.top1.correct, metrics.top1.n))
        write_text(scores.metrics_path.with_name("acc.log"), line + "\n")
        print(line)
    if scores.missed:
        raise CheckFailedError(f"The accuracy is not what was asked for: {'; '.join(scores.missed)}.")
    return None


if __name__ == "__main__":
    run(main)
