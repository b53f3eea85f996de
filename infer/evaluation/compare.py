"""Two evaluations compared on the samples that they share, by id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.evaluation.score_record import RECORD_NAME, read_header, read_rows
from postprocess.paired import Paired, compare_predictions
from vidom.errors import BadDataError
from vidom.files import write_json
from vidom.wording import some

__all__ = ["COMPARISON_NAME", "Comparison", "compare_records", "record_in"]

COMPARISON_NAME = "comparison.json"
_METHOD = "exact McNemar test; Tango's score interval (Statistics in Medicine 17, 1998, 891-908)"


@dataclass(frozen=True)
class Comparison:
    """What the common samples say, and how many samples only one of the two evaluations has."""

    paired: Paired
    only_here: int
    only_there: int

    @property
    def text(self) -> str:
        """The comparison in words, several lines."""
        found = self.paired
        here, there = found.correct / found.n, found.reference_correct / found.n
        alone = f"; {self.only_here} samples are only here, {self.only_there} only there"
        return "\n".join(
            (
                f"compared on {found.n} common samples{alone if self.only_here or self.only_there else ''}:",
                f"  top-1 {here:.4f} here, {there:.4f} there: {100 * found.difference:+.2f} points, 95 % interval "
                f"{100 * found.low:+.2f} .. {100 * found.high:+.2f} (paired, Tango's score interval)",
                f"  {found.broken} from right there to wrong here, {found.mended} from wrong to right, "
                f"{found.disagreements} other first choices in all; exact McNemar p = {found.p:.4g}",
            )
        )


@dataclass(frozen=True)
class _Choice:
    index: int
    label: int
    first: int


def record_in(path: Path) -> Path:
    """Return the record of an evaluation that a user names by its folder or by itself.

    Raises BadDataError when there is none.
    """
    record = path / RECORD_NAME if path.is_dir() else path
    if not record.is_file():
        raise BadDataError(
            f"{path} holds no {RECORD_NAME}, the record of an evaluation. Give the --output_dir of a run of "
            "infer.evaluate to compare with."
        )
    read_header(record)
    return record


def compare_records(record: Path, other: Path, *, output: Path) -> Comparison:
    """`output` holds the comparison of two records, the other one being the reference; samples are matched by id.

    Raises BadDataError when they share no sample, or a shared one has another label there.
    """
    here, there = _choices(record), _choices(other)
    common = sorted(here.keys() & there.keys(), key=lambda name: here[name].index)
    if not common:
        raise BadDataError(
            f"{record} and {other} have no sample in common, so there is nothing to compare. Evaluate both on the "
            "same list."
        )
    differing = [name for name in common if here[name].label != there[name].label]
    if differing:
        raise BadDataError(
            f"{len(differing)} samples have another label in {other} than in {record}: {some(differing)}. Evaluate "
            "both on the same list."
        )
    paired = compare_predictions(
        np.array([here[name].first for name in common]),
        np.array([there[name].first for name in common]),
        np.array([here[name].label for name in common]),
    )
    found = Comparison(paired, len(here) - len(common), len(there) - len(common))
    disagreements = [
        {
            "index": here[name].index,
            "id": name,
            "label": here[name].label,
            "here": here[name].first,
            "there": there[name].first,
        }
        for name in common
        if here[name].first != there[name].first
    ]
    write_json(output, _document(found, record, other, disagreements))
    return found


def _choices(record: Path) -> dict[str, _Choice]:
    # The first choice is numpy's: of equal scores the lower class, as in the metrics.
    return {row.id: _Choice(row.index, row.label, int(row.scores.argmax())) for row in read_rows(record)}


def _document(
    found: Comparison, record: Path, other: Path, disagreements: list[dict[str, Any]]
) -> Mapping[str, Any]:
    paired = found.paired
    return {
        "n": paired.n,
        "only_here": found.only_here,
        "only_there": found.only_there,
        "top1_here": paired.correct / paired.n,
        "top1_there": paired.reference_correct / paired.n,
        "right_there_wrong_here": paired.broken,
        "wrong_there_right_here": paired.mended,
        "other_first_choice": paired.disagreements,
        "mcnemar_p": paired.p,
        "difference": paired.difference,
        "interval_95": [paired.low, paired.high],
        "method": _METHOD,
        "here": read_header(record),
        "there": read_header(other),
        "disagreements": disagreements,
    }
