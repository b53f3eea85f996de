"""The scores of all samples in one array, read file by file and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from postprocess.matching import Match
from postprocess.outputs import Output
from postprocess.scored import check_finite
from vidom.errors import BadDataError, UsageError
from vidom.formats.engine_outputs import read_output
from vidom.formats.output_groups import read_outputs
from vidom.progress import progress
from vidom.wording import some

__all__ = ["gather", "peek"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_FILES_AT_ONCE = 256


def peek(output: Output, classes: int | None) -> tuple[int, int]:
    """Return how many rows and classes an output file holds.

    Raises UsageError for a `.bin` when the class count is unknown, BadDataError when the file is damaged.
    """
    if classes is None and output.name.lower().endswith(".bin"):
        raise UsageError(
            f"{output.path} has no shape, and the number of classes is not known from a clip store or label file. "
            "Give --num_classes, or --labels with the file of class names."
        )
    rows, columns = read_output(output.path, classes=classes).shape
    return rows, columns


def gather(matches: Sequence[Match], labels: Mapping[int, int], *, classes: int) -> FloatArray:
    """Return the scores, shape (samples, classes) float32, of the labelled samples by ascending index.

    Engines compute in float32, so the NPY and the BIN of one run give the same array; a TXT keeps six decimals.
    Rows of several views of a sample are averaged in float64, in the order of the views. Memory is the array,
    three arrays with several views, and a few hundred files.

    Raises BadDataError that names the files with a wrong number of rows or columns or without numbers, and the
    samples with a NaN or infinite score. A file may lack its padding rows.
    """
    order = {index: position for position, index in enumerate(sorted(labels))}
    views = len({match.view for match in matches})
    sums = np.zeros((len(order), classes), np.float64 if views > 1 else np.float32)
    misshapen: list[str] = []
    by_view = sorted(matches, key=lambda match: match.view)
    # Infinite and NaN sums are rejected below.
    with (
        progress(total=len(matches), unit="file", label="read scores") as bar,
        np.errstate(over="ignore", invalid="ignore"),
    ):
        for first in range(0, len(by_view), _FILES_AT_ONCE):
            group = by_view[first : first + _FILES_AT_ONCE]
            read = read_outputs([match.output.path for match in group], classes=classes)
            for match, rows in zip(group, read, strict=True):
                if (fault := _fault(rows, match, classes)) is None:
                    # Further rows are padding.
                    for index, row in zip(match.samples, rows, strict=False):
                        sums[order[index]] += row
                else:
                    misshapen.append(f"{match.output.name} ({fault})")
            bar.update(len(group))
    if misshapen:
        raise BadDataError(
            f"{len(misshapen)} of the {len(matches)} output files in {matches[0].output.folder} do not hold "
            f"{classes} scores for each of their samples: {some(misshapen)}. If all of them have a different number "
            "of classes, the labels belong to a different data set; if they have several rows for one sample, "
            "they are its single views: export the model with --average_clips prob (or score)."
        )
    # A value beyond the range of float32 becomes infinite too.
    with np.errstate(over="ignore"):
        sums /= views
        scores = sums.astype(np.float32, copy=False)
    check_finite(scores, sorted(labels))
    return scores


def _fault(rows: Array, match: Match, classes: int) -> str | None:
    expected = len(match.samples)
    if rows.dtype.kind not in "fiub":
        return f"{rows.dtype} instead of numbers"
    if rows.shape[1] != classes:
        return f"{rows.shape[1]} columns instead of {classes}"
    if rows.shape[0] not in (expected, expected + match.padding):
        return f"{rows.shape[0]} rows instead of {expected + match.padding}"
    return None
