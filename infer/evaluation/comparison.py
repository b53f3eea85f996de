"""Compare two evaluations on the samples that both have, matched by id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.evaluation.record import RECORD_NAME, read_header, read_rows
from postprocess.paired import Paired, compare_predictions
from vidom.errors import BadDataError
from vidom.files import write_json
from vidom.wording import some

__all__ = ["COMPARISON_NAME", "Comparison", "compare_records", "record_in"]

COMPARISON_NAME = "comparison.json"
_METHOD = "exact McNemar test; Tango's score interval (Statistics in Medicine 17, 1998, 891-908)"


@dataclass(frozen=True)
class Comparison:
    """The paired statistics of the common samples, and the number of samples that only one of the evaluations has."""

    paired: Paired
    only_here: int
    only_there: int

    @property
    def text(self) -> str:
        """The comparison as text of several lines."""
        paired = self.paired
        here, there = paired.correct / paired.n, paired.reference_correct / paired.n
        unshared = f"; {self.only_here} samples only in this run, {self.only_there} only in the reference"
        return "\n".join(
            (
                f"compared on {paired.n} common samples{unshared if self.only_here or self.only_there else ''}:",
                f"  top-1 {here:.4f}, reference {there:.4f}: {100 * paired.difference:+.2f} points, 95 % interval "
                f"{100 * paired.low:+.2f} .. {100 * paired.high:+.2f} (paired, Tango's score interval)",
                f"  {paired.regressions} regressions, {paired.fixes} fixes, {paired.disagreements} predictions changed "
                f"in total; exact McNemar p = {paired.p:.4g}",
            )
        )


@dataclass(frozen=True)
class _Prediction:
    index: int
    label: int
    best: int


def record_in(path: Path) -> Path:
    """Return the record of an evaluation, given its folder or the record itself.

    Raises BadDataError when there is none.
    """
    record = path / RECORD_NAME if path.is_dir() else path
    if not record.is_file():
        raise BadDataError(
            f"{path} has no {RECORD_NAME}, the record of an evaluation. Give the --output_dir of a run of "
            "infer.evaluate to compare with."
        )
    read_header(record)
    return record


def compare_records(record: Path, other: Path, *, output: Path) -> Comparison:
    """Return the comparison of two records, the other one being the reference, and write it to `output`.

    Samples are matched by id. Raises BadDataError when they share no sample, or a shared one has a different label.
    """
    here, there = _predictions(record), _predictions(other)
    common = sorted(here.keys() & there.keys(), key=lambda name: here[name].index)
    if not common:
        raise BadDataError(
            f"{record} and {other} have no sample in common, so there is nothing to compare. Evaluate both on the "
            "same list."
        )
    differing = [name for name in common if here[name].label != there[name].label]
    if differing:
        raise BadDataError(
            f"{len(differing)} samples have different labels in {other} and {record}: {some(differing)}. Evaluate "
            "both on the same list."
        )
    paired = compare_predictions(
        np.array([here[name].best for name in common]),
        np.array([there[name].best for name in common]),
        np.array([here[name].label for name in common]),
    )
    comparison = Comparison(paired, len(here) - len(common), len(there) - len(common))
    disagreements = [
        {
            "index": here[name].index,
            "id": name,
            "label": here[name].label,
            "here": here[name].best,
            "there": there[name].best,
        }
        for name in common
        if here[name].best != there[name].best
    ]
    write_json(output, _document(comparison, record, other, disagreements))
    return comparison


def _predictions(record: Path) -> dict[str, _Prediction]:
    # numpy's argmax takes the lower class of equal scores, as the metrics do.
    return {row.id: _Prediction(row.index, row.label, int(row.scores.argmax())) for row in read_rows(record)}


def _document(
    comparison: Comparison, record: Path, other: Path, disagreements: list[dict[str, Any]]
) -> Mapping[str, Any]:
    paired = comparison.paired
    return {
        "n": paired.n,
        "only_here": comparison.only_here,
        "only_there": comparison.only_there,
        "top1_here": paired.correct / paired.n,
        "top1_there": paired.reference_correct / paired.n,
        "right_there_wrong_here": paired.regressions,
        "wrong_there_right_here": paired.fixes,
        "other_first_choice": paired.disagreements,
        "mcnemar_p": paired.p,
        "difference": paired.difference,
        "interval_95": [paired.low, paired.high],
        "method": _METHOD,
        "here": read_header(record),
        "there": read_header(other),
        "disagreements": disagreements,
    }
