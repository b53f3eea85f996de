"""The proof that surgery kept the meaning: both graphs run on the same samples, compared row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.surgery.pass_types import AverageClips
from export.verification.probe import Probe, Rows, logits_of
from vidom.errors import BadDataError

__all__ = ["TOLERANCE", "Difference", "Equivalence", "prove_equal"]

# Of the largest magnitude among the original's rows, for anything but probabilities. Trained-like logits of TSM
# and I3D reach 4 to 8 and differ from their own float64 run by up to 7e-5 and 1.7e-4; two float32 runs that
# sum in another order may differ by twice that. A mistaken shift moves them by 2 or more.
TOLERANCE = 1e-4
# Different samples tried at most; TSM at full size takes 1.5 s for each on two cores.
_DISTINCT = 8


@dataclass(frozen=True)
class Difference:
    """How far apart the two graphs are in one output, or in the logits in front of its Softmax."""

    what: str
    samples: int
    max_abs: float
    max_rel: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is a number and within the tolerance, both absolute."""
        return self.max_abs <= self.tolerance


@dataclass(frozen=True)
class Equivalence:
    """All differences that were measured."""

    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether every one of them is within the tolerance."""
        return bool(self.differences) and all(difference.passed for difference in self.differences)

    def lines(self) -> str:
        """Return one line per difference for a person to read."""
        return "\n".join(
            f"{item.what}: {item.samples} random samples, max abs diff {item.max_abs:.3g} (allowed "
            f"{item.tolerance:.3g}), {item.max_rel:.3g} of the largest magnitude"
            for item in self.differences
        )


def prove_equal(
    original: ir.Model,
    modified: ir.Model,
    *,
    average_clips: AverageClips = "score",
    rounds: int = 2,
    seed: int = 0,
) -> Equivalence:
    """Return how far `modified` is from `original` on `rounds` random batches, sample by sample.

    Inputs are normal deviates, as normalised clips are (bytes 0..255 for a uint8 input), of which up to 8
    differ; a larger batch repeats them. Each graph runs at its own batch, the last one filled with the first
    sample again; a symbolic batch runs as 2.

    Where the original gives V rows per sample and the other one, the rows are averaged here as
    `average_clips` says: softmax of the mean logits for "score", mean of the rows for "prob". Logits in front
    of a Softmax are compared too, since probabilities alone hide errors where all classes are about equally
    likely.

    Raises BadDataError when ONNX Runtime refuses a graph or the two give rows that cannot be compared.
    """
    first, second = Probe.of(original), Probe.of(modified)
    if first.sample_shape != second.sample_shape or first.dtype != second.dtype:
        raise BadDataError(
            f"The two graphs take different samples: {first.dtype} {list(first.sample_shape)} and "
            f"{second.dtype} {list(second.sample_shape)}. They cannot be compared."
        )
    count = rounds * second.batch
    distinct = min(count, _DISTINCT)
    samples = _random_samples(distinct, first.sample_shape, first.dtype, seed=seed)
    order = np.arange(count) % distinct
    before = {name: rows[order] for name, rows in first.rows(samples, np.arange(distinct)).items()}
    after = second.rows(samples, order)
    differences = []
    for index, name in enumerate(first.outputs):
        logits, theirs = before.get(logits_of(index)), after.get(logits_of(index))
        expected = _per_sample(before[name], logits, after[name], average_clips)
        share = TOLERANCE
        if logits is not None and theirs is not None:
            matching = logits if logits.shape == theirs.shape else logits.mean(axis=1, keepdims=True)
            found = _difference("logits before its Softmax", matching, theirs, share=TOLERANCE)
            differences.append(found)
            # Logits that are wrong by d make a probability p wrong by up to 2 d p.
            share = 2 * found.tolerance
        differences.append(_difference(f"output {name}", expected, after[name], share=share))
    return Equivalence(tuple(differences))


def _random_samples(count: int, shape: Sequence[int], dtype: np.dtype[Any], *, seed: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.standard_normal((count, *shape), dtype=np.float32).astype(dtype)
    if dtype == np.uint8:
        return generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    raise BadDataError(
        f"The graph takes {dtype} samples; only floating-point numbers and uint8 pixels can be tried."
    )


def _per_sample(rows: Rows, logits: Rows | None, other: Rows, average_clips: AverageClips) -> Rows:
    if rows.shape == other.shape:
        return rows
    if other.shape[1] != 1 or rows.shape[2:] != other.shape[2:]:
        raise BadDataError(
            f"The original gives {list(rows.shape[1:])} for a sample and the modified graph "
            f"{list(other.shape[1:])}: neither the same rows nor their average."
        )
    if average_clips == "score" and logits is not None:
        return _softmax(logits.mean(axis=1, keepdims=True))
    averaged: Rows = rows.mean(axis=1, keepdims=True)
    return averaged


def _softmax(logits: Rows) -> Rows:
    powers: Rows = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: Rows = powers / powers.sum(axis=-1, keepdims=True)
    return normalised


def _difference(what: str, expected: Rows, found: Rows, *, share: float) -> Difference:
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(what, len(expected), max_abs=float("nan"), max_rel=float("nan"), tolerance=0.0)
    distance = float(np.abs(expected - found).max(initial=0.0))
    scale = float(np.abs(expected).max(initial=0.0))
    relative = distance / scale if scale else float(distance > 0)
    return Difference(what, len(expected), max_abs=distance, max_rel=relative, tolerance=share * scale)
