"""Score an engine's outputs against the labels: `python postprocess/score.py --result_path …`.

Prints top-1 and top-5 as ModelZoo's TSM_postprocess.py does and writes `metrics.json`.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from postprocess.gather import gather, peek
from postprocess.matching import Match, check_coverage, in_order, match_by_number, match_by_store
from postprocess.metrics import Metrics
from postprocess.outputs import find_outputs, metrics_path, run_folder
from postprocess.scored import accuracy_remarks, accuracy_text, check_labels, log_remarks, write_scored
from postprocess.truth import find_truth
from postprocess.view_scores import sample_scores
from vidom.bounded_reading import read_lines, read_text
from vidom.command import run
from vidom.errors import BadDataError, CheckFailedError, UsageError
from vidom.folder_lock import locked_folder
from vidom.formats.clip_store import ClipStore
from vidom.formats.mindspore_310 import Accuracy, accuracy_line, read_accuracy, write_accuracy
from vidom.options import option, read_options
from vidom.wording import some

__all__ = ["ScoreOptions", "Scores", "main", "score"]

_log = logging.getLogger(__name__)

MOST_CLASSES = 10_000
_MAX_NAMES_BYTES = 1 << 22
THRESHOLDS = ("top1", "top5", "mean_class_accuracy")


def _threshold(word: str) -> tuple[str, float]:
    name, _, value = word.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=FRACTION such as top1=0.61, not {word!r}") from None


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Score an engine's outputs against the labels."""

    result_path: Path = option("NAME_summary.json of the run, or its result folder")
    info_path: Path | None = option(
        "list of `index label` lines, such as sthv2.info, or label_ids.npy of MindSpore's 310 flow (default: the "
        "labels of the clip store that the inputs belong to)",
        default=None,
    )
    threshold: tuple[tuple[str, float], ...] = option(
        f"exit 1 if an accuracy is lower; names: {', '.join(THRESHOLDS)}",
        default=(), extend=True, parse=_threshold, metavar="NAME=FRACTION",
    )  # fmt: skip
    output: Path | None = option(
        "where to write metrics.json (default: NAME_metrics.json next to the summary)", default=None
    )
    labels: Path | None = option("file of class names, one a line (default: the clip store's)", default=None)
    num_classes: int | None = option(
        "number of classes; required for BIN outputs without clip store and --labels", default=None
    )

    def __post_init__(self) -> None:
        for name, value in self.threshold:
            if name not in THRESHOLDS:
                near = difflib.get_close_matches(name, THRESHOLDS, n=1)
                meant = f" Did you mean {near[0]}?" if near else ""
                raise UsageError(f"There is no threshold {name!r}, only {', '.join(THRESHOLDS)}.{meant}")
            if not 0 <= value <= 1:
                raise UsageError(
                    f"The threshold {name}={value} must be a fraction from 0 to 1, 61 % is 0.61."
                )
        if self.num_classes is not None and self.num_classes < 1:
            raise UsageError(f"--num_classes {self.num_classes} must be 1 or more.")


@dataclass(frozen=True)
class Scores:
    """The metrics of a run and where they were written.

    `names` are the class names where known, `remarks` what a reader should know besides the numbers, `missed`
    the thresholds that were not reached, one phrase each.
    """

    metrics: Metrics
    names: tuple[str, ...]
    metrics_path: Path
    remarks: tuple[str, ...]
    missed: tuple[str, ...]


def score(options: ScoreOptions) -> Scores:
    """Write the metrics of the results and return them, whether the thresholds are reached or not.

    Views of a sample that are separate files are averaged as their clip store says. The file's bytes depend on
    scores, labels and class names only, not on batch size, file format, order or place.

    Raises UsageError for conflicting class counts and as `find_truth` does, BadDataError as `find_outputs`,
    `check_coverage`, `gather` and `sample_scores` do, and when a label is not a class, UnavailableError while another
    process works on the results.
    """
    with _locked(options.result_path):
        return _score(options)


def _locked(result_path: Path) -> AbstractContextManager[None]:
    """Return the lock of the run's folder, whose files an inference would replace; none where it is read-only."""
    folder = run_folder(result_path)
    return locked_folder(folder) if os.access(folder, os.W_OK) else nullcontext()


def _score(options: ScoreOptions) -> Scores:
    outputs = find_outputs(options.result_path)
    truth = find_truth(outputs, options.info_path)
    _log.info(f"{len(truth.labels)} labels from {truth.source}")
    store = truth.store
    names, classes = _classes(options, store)
    if store is None:
        numbered = in_order(outputs)
        rows, columns = peek(numbered[0][1], classes)
        matches = match_by_number(numbered, truth.labels, rows=rows)
    else:
        _, columns = peek(outputs[0], classes)
        matches = match_by_store(outputs, store)
    classes = columns if classes is None else classes
    if classes > MOST_CLASSES:
        raise BadDataError(
            f"{outputs[0].path} holds {classes} scores in a row; at most {MOST_CLASSES} classes are scored, because "
            "the confusion matrix has a cell for each pair of them. Score the output that holds the class scores."
        )
    check_coverage(matches, truth.labels, store)
    check_labels(truth.labels, classes, truth.source)
    scores = gather(matches, truth.labels, classes=classes)
    if store is not None and store.header.average_clips:
        scores = sample_scores(scores, store.header.average_clips)
    target = options.output or metrics_path(options.result_path)
    scored = write_scored(target, scores, truth.labels, names=names)
    return Scores(
        metrics=scored.metrics,
        names=names,
        metrics_path=target,
        remarks=(*_remarks(matches, store), *scored.remarks),
        missed=_missed(scored.metrics, options.threshold),
    )


def _classes(options: ScoreOptions, store: ClipStore | None) -> tuple[tuple[str, ...], int | None]:
    labels = options.labels
    names = (
        () if labels is None else read_lines(labels, what="file of class names", max_bytes=_MAX_NAMES_BYTES)
    )
    counts = {"--num_classes": options.num_classes, f"--labels {labels}": len(names)}
    if store is not None:
        counts[f"the clip store {store.folder}"] = len(store.labels)
        names = names or store.labels
    known = {source: count for source, count in counts.items() if count}
    if len(set(known.values())) > 1:
        counted = ", ".join(f"{count} from {source}" for source, count in known.items())
        raise UsageError(f"Conflicting class counts: {counted}. Remove the wrong option.")
    return names, next(iter(known.values()), None)


def _missed(metrics: Metrics, thresholds: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    reached = {
        "top1": metrics.top1.value,
        "top5": metrics.top5.value,
        "mean_class_accuracy": metrics.mean_class_accuracy,
    }
    return tuple(
        f"{name} is {reached[name]:.4f}, below {target:g}"
        for name, target in dict(thresholds).items()
        if reached[name] < target
    )


def _remarks(matches: Sequence[Match], store: ClipStore | None) -> list[str]:
    remarks = []
    if padding := sum(match.padding for match in matches):
        remarks.append(f"{padding} padding rows were ignored.")
    if store is not None and store.header.average_clips:
        kind = {"prob": "probabilities", "score": "logits"}[store.header.average_clips]
        remarks.append(f"The {kind} of each sample's {store.header.views_per_sample} views were averaged.")
    if store is not None and store.skipped:
        remarks.append(
            f"{len(store.skipped)} samples could not be read when the store was packed and are not counted: "
            f"{some(f'{skip.index} ({skip.id})' for skip in store.skipped)}."
        )
    return remarks


def _log_accuracy(path: Path, accuracy: Accuracy) -> None:
    """Write acc.log of the 310 flow, and compare with the one that was there, such as the original's."""
    # One without an accuracy is of a run that failed.
    with suppress(BadDataError):
        earlier = read_accuracy(read_text(path, what="acc.log"))
        _log.log(
            logging.INFO if earlier == accuracy else logging.WARNING,
            f"the earlier {path} had {earlier.correct} of {earlier.total} samples right, now {accuracy.correct} of "
            f"{accuracy.total} are",
        )
    write_accuracy(path, accuracy)


def main(argv: Sequence[str] | None = None) -> int | None:
    """Print the two accuracies; raise CheckFailedError afterwards if a threshold is not reached."""
    options = read_options(ScoreOptions, argv)
    scores = score(options)
    metrics = scores.metrics
    print(accuracy_text(metrics))
    log_remarks(_log, (*accuracy_remarks(metrics), *scores.remarks))
    _log.info(f"metrics written to {scores.metrics_path}")
    if options.info_path is not None and options.info_path.suffix == ".npy":
        accuracy = Accuracy(metrics.top1.correct, metrics.top1.n)
        _log_accuracy(scores.metrics_path.with_name("acc.log"), accuracy)
        print(accuracy_line(accuracy))
    if scores.missed:
        raise CheckFailedError(f"Accuracy is below the threshold: {'; '.join(scores.missed)}.")
    return None


if __name__ == "__main__":
    run(main)
