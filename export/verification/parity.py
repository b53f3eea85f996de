"""Agreement of two stages on the same input, on logits and on rows, sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Parity", "Tolerance", "compare", "render"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far two float32 runs of one network may be apart.

    `logits` is relative to the largest |logit|, `rows` to 1 or the largest |row value| if that is more. The
    original TSM differs from its own float64 run by up to 7e-5 at logits of about 5 (mmaction2 0.24), hence
    1e-4 and 5e-5.
    """

    logits: float = 1e-4
    rows: float = 5e-5


@dataclass(frozen=True)
class Parity:
    """How far `stage` is from the reference over all samples of one comparison.

    `flips` lists (sample, reference top-1, its margin over the stage's top-1) where the two disagree about
    the best class; such a flip is a fault only if the margin exceeds what the tolerance allows.
    """

    stage: str
    batch_size: int
    samples: int
    max_logits: float
    relative_logits: float
    max_rows: float
    flips: tuple[tuple[int, int, float], ...]
    passed: bool


def compare(
    stage: str,
    *,
    batch_size: int,
    logits: tuple[Array, Array],
    rows: tuple[Array, Array],
    tolerance: Tolerance,
) -> Parity:
    """Return the agreement of (reference, candidate) logits and rows, each of shape (samples, ...)."""
    scale = float(np.abs(logits[0]).max())
    max_logits = _max_difference(*logits)
    max_rows = _max_difference(*rows)
    flips = tuple(_flips(*rows))
    # Rows without softmax are logits, of any scale; probabilities are at most 1.
    allowed = tolerance.rows * max(1.0, float(np.abs(rows[0]).max()))
    passed = max_logits <= tolerance.logits * scale and max_rows <= allowed
    passed &= all(margin <= 2 * allowed for _, _, margin in flips)
    return Parity(
        stage=stage,
        batch_size=batch_size,
        samples=len(rows[0]),
        max_logits=max_logits,
        relative_logits=max_logits / scale if scale else float("inf"),
        max_rows=max_rows,
        flips=flips,
        passed=bool(passed),
    )


def _max_difference(reference: Array, candidate: Array) -> float:
    if reference.shape != candidate.shape or not np.isfinite(candidate).all():
        return float("inf")
    return float(np.abs(reference - candidate).max())


def _flips(reference: Array, candidate: Array) -> Iterable[tuple[int, int, float]]:
    if reference.shape != candidate.shape:
        return
    for sample, (wanted, found) in enumerate(zip(reference, candidate, strict=True)):
        best, other = int(wanted.argmax()), int(found.argmax())
        if best != other:
            yield sample, best, float(wanted[best] - wanted[other])


def render(parities: Sequence[Parity]) -> str:
    """Return the comparisons as an aligned table, a line each and a line for each flip."""
    width = max(len(parity.stage) for parity in parities) + 2
    lines = [
        f"{'stage':<{width}}{'batch':>6}{'samples':>9}{'max|dlogit|':>13}{'relative':>10}{'max|drow|':>11}{'flips':>7}"
    ]
    for parity in parities:
        lines.append(
            f"{parity.stage:<{width}}{parity.batch_size:>6}{parity.samples:>9}{parity.max_logits:>13.2e}"
            f"{parity.relative_logits:>10.1e}{parity.max_rows:>11.2e}{len(parity.flips):>7}"
            + ("" if parity.passed else "  FAILED")
        )
        lines += [
            f"  sample {sample}: top-1 was {best}, margin {margin:.2e}"
            for sample, best, margin in parity.flips
        ]
    return "\n".join(lines)
