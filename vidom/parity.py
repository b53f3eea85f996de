"""The one comparison of two stages on the same inputs: logits, rows, changes of the top-1 and top-5 classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from vidom.errors import UsageError

__all__ = ["NUMBER_FORMATS", "Flip", "NumberFormat", "Parity", "Tolerance", "compare", "render"]

Array = npt.NDArray[Any]
NumberFormat = Literal["float32", "float16", "bfloat16", "int8"]
NUMBER_FORMATS: tuple[NumberFormat, ...] = get_args(NumberFormat)

# The largest relative error of rounding one number: 2^-p for p significant bits. For int8 it is half a step of a
# symmetric scale, relative to the largest number of the tensor.
_UNIT_ROUNDOFF: dict[NumberFormat, float] = {
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "int8": 1 / 254,
}
_LIMITS: dict[NumberFormat, tuple[float, float]] = {
    "float32": (1e-4, 5e-5),
    "float16": (2e-2, 2e-2),
    "bfloat16": (1.6e-1, 1.6e-1),
    "int8": (2e-1, 2e-1),
}


@dataclass(frozen=True)
class Tolerance:
    """How far two stages of one network may be apart if the less precise one computes in `number_format`.

    `logits` is relative to the largest |logit|; `rows` to the largest |row value|, or to 1 if that is less.

    float32: measured. The original TSM differs from its own float64 run by up to 7e-5 and I3D by up to 1.7e-4 at
    logits of 4 to 8, and two float32 runs that sum in a different order by up to twice that. A mistaken shift moves the
    logits by 2 or more.

    float16, bfloat16: sums are accumulated in float32 (an NPU's cube unit, AMX), so what counts is one rounding of
    each layer's result, about 100 of them with unit roundoff u. Independent errors add up to sqrt(100) u = 10 u;
    allowed is four times that, since the largest of hundreds of logits is compared: 40 u.

    int8: the scale and the zero point of every tensor are estimates, so there is no bound. 0.2 separates a quantized
    network from a broken one; whether it is good enough is decided by its accuracy.
    """

    number_format: NumberFormat = "float32"
    logits: float = _LIMITS["float32"][0]
    rows: float = _LIMITS["float32"][1]

    @classmethod
    def of(cls, number_format: NumberFormat) -> Tolerance:
        """Return the tolerance of a number format. Raises UsageError for an unknown one."""
        if number_format not in _LIMITS:
            raise UsageError(
                f"Unknown number format {number_format!r}; expected one of {', '.join(NUMBER_FORMATS)}."
            )
        logits, rows = _LIMITS[number_format]
        return cls(number_format, logits, rows)


class Flip(NamedTuple):
    """A row whose top-1 class changed; `margin` is how far `reference` was ahead of the new class."""

    row: int
    reference: int
    margin: float


@dataclass(frozen=True)
class Parity:
    """How far `stage` is from its reference on `samples` of the `of` samples that there are.

    Differences are infinite where shapes differ or numbers are not finite; relative ones are divided by the largest
    magnitude of the reference. The logits are None if they were not compared. A flip counts as a failure only if its
    margin exceeds what the tolerance allows; `top5_changes` counts the rows whose set of five best classes changed.
    """

    stage: str
    batch_size: int
    number_format: NumberFormat
    samples: int
    of: int
    rows: int
    max_logits: float | None
    relative_logits: float | None
    allowed_logits: float | None
    max_rows: float
    relative_rows: float
    allowed_rows: float
    flips: tuple[Flip, ...]
    top5_changes: int
    passed: bool

    @property
    def facts(self) -> dict[str, Any]:
        """The comparison for a JSON file, in which infinite differences are None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @property
    def tolerance_used(self) -> float:
        """The largest difference in units of what is allowed; above 1 the comparison has failed."""
        logits = 0.0
        if self.max_logits is not None and self.allowed_logits is not None:
            logits = _ratio(self.max_logits, self.allowed_logits)
        return max(logits, _ratio(self.max_rows, self.allowed_rows))


def compare(
    stage: str,
    *,
    batch_size: int,
    rows: tuple[Array, Array],
    logits: tuple[Array, Array] | None = None,
    tolerance: Tolerance | None = None,
    samples: int | None = None,
    of: int | None = None,
) -> Parity:
    """Return the agreement of a candidate with its reference on the same inputs.

    Rows must be within `tolerance.rows`. Where logits are given and rows are probabilities, rows may also not differ by
    more than the allowed difference d of logits explains, which is 2 d p for a probability p: probabilities of about
    1/classes would otherwise agree whatever is computed.

    Args:
        stage: what is compared, for the report.
        batch_size: the batch at which the candidate ran.
        rows: reference and candidate, [rows, classes].
        logits: reference and candidate, the values before Softmax; the rows again if there is no Softmax.
        tolerance: default: that of float32.
        samples: how many samples were compared (default: one for each row).
        of: how many samples there are (default: all were compared).
    """
    tolerance = tolerance or Tolerance()
    max_rows = _max_difference(*rows)
    max_logits = relative_logits = allowed_logits = None
    if logits is not None:
        max_logits, scale = _max_difference(*logits), _largest(logits[0])
        relative_logits, allowed_logits = _ratio(max_logits, scale), tolerance.logits * scale
    allowed_rows = _allowed_rows(rows[0], tolerance, allowed_logits)
    flips, top5_changes = _changes(*rows)
    passed = max_rows <= allowed_rows and all(flip.margin <= 2 * allowed_rows for flip in flips)
    if max_logits is not None and allowed_logits is not None:
        passed &= max_logits <= allowed_logits
    count = len(rows[0]) if samples is None else samples
    return Parity(
        stage=stage,
        batch_size=batch_size,
        number_format=tolerance.number_format,
        samples=count,
        of=count if of is None else of,
        rows=len(rows[0]),
        max_logits=max_logits,
        relative_logits=relative_logits,
        allowed_logits=allowed_logits,
        max_rows=max_rows,
        relative_rows=_ratio(max_rows, _largest(rows[0])),
        allowed_rows=allowed_rows,
        flips=flips,
        top5_changes=top5_changes,
        passed=bool(passed),
    )


def _allowed_rows(reference: Array, tolerance: Tolerance, allowed_logits: float | None) -> float:
    largest = _largest(reference)
    allowed = tolerance.rows * max(1.0, largest)
    if allowed_logits is None or not _are_probabilities(reference):
        return allowed
    # Equal logits still leave Softmax and the average a few roundings of their own.
    return min(allowed, (2 * allowed_logits + 4 * _UNIT_ROUNDOFF[tolerance.number_format]) * largest)


def _are_probabilities(rows: Array) -> bool:
    return bool((rows >= 0).all() and (np.abs(rows.sum(axis=-1) - 1) < 1e-2).all())


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _ratio(difference: float, scale: float) -> float:
    return difference / scale if scale else float("inf") if difference else 0.0


def _max_difference(reference: Array, candidate: Array) -> float:
    if reference.shape != candidate.shape or not (
        np.isfinite(reference).all() and np.isfinite(candidate).all()
    ):
        return float("inf")
    return float(np.abs(reference.astype(np.float64) - candidate.astype(np.float64)).max(initial=0.0))


def _changes(reference: Array, candidate: Array) -> tuple[tuple[Flip, ...], int]:
    """Return the changes of the best class, and how many rows have a different set of five best classes.

    Of equal scores the lower class is the better.
    """
    if reference.shape != candidate.shape or not reference.size:
        return (), 0
    reference = reference.reshape(len(reference), -1)
    orders = [
        np.argsort(-values.astype(np.float64).reshape(len(values), -1), axis=1, kind="stable")[:, :5]
        for values in (reference, candidate)
    ]
    (best, other), (first, second) = (
        (order[:, 0] for order in orders),
        (np.sort(order, axis=1) for order in orders),
    )
    flips = tuple(
        Flip(int(row), int(best[row]), float(reference[row, best[row]]) - float(reference[row, other[row]]))
        for row in np.flatnonzero(best != other)
    )
    return flips, int((first != second).any(axis=1).sum())


def render(parities: Sequence[Parity]) -> str:
    """Return the comparisons as an aligned table, one line each, and a line for each change of a top-1 class."""
    width = max(len(parity.stage) for parity in parities) + 2
    lines = [
        f"{'stage':<{width}}{'batch':>6}{'samples':>9}  {'tolerance':<10}{'max|dlogit|':>12}{'relative':>10}"
        f"{'max|drow|':>11}{'top-1':>7}{'top-5':>7}"
    ]
    for parity in parities:
        samples = str(parity.samples) if parity.samples == parity.of else f"{parity.samples}/{parity.of}"
        lines.append(
            f"{parity.stage:<{width}}{parity.batch_size:>6}{samples:>9}  {parity.number_format:<10}"
            f"{_shown(parity.max_logits, '.2e'):>12}{_shown(parity.relative_logits, '.1e'):>10}"
            f"{parity.max_rows:>11.2e}{len(parity.flips):>7}{parity.top5_changes:>7}"
            + ("" if parity.passed else "  FAILED")
        )
        lines += [
            f"  row {flip.row}: top-1 was {flip.reference}, margin {flip.margin:.2e}" for flip in parity.flips
        ]
    return "\n".join(lines)


def _shown(number: float | None, spec: str) -> str:
    return "-" if number is None else format(number, spec)
