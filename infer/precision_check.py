"""What bfloat16 changes: the same inputs computed in float32 too, and both answers compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infer.batches.inputs import BatchPlan
from infer.batches.reading import ReadBatch
from infer.batches.running import split_outputs
from infer.engines.base import ArrayEngine
from infer.engines.tensor_specs import Array

__all__ = ["DEFAULT_SAMPLES", "PrecisionCheck", "check_precision", "compare_rows"]

DEFAULT_SAMPLES = 32


@dataclass(frozen=True)
class PrecisionCheck:
    """How rows of scores in bfloat16 differ from those in float32 of the same inputs.

    `top1_flips` counts rows with another best class, `top5_changes` those whose five best are other classes, in
    whatever order; `max_difference` is the largest of any score. `of` is how many samples the run had in all.
    """

    samples: int
    of: int
    rows: int
    top1_flips: int
    top5_changes: int
    max_difference: float

    @property
    def facts(self) -> dict[str, Any]:
        """The check for the summary."""
        return {"bf16_against_f32": asdict(self)}

    @property
    def text(self) -> str:
        """The check in a line."""
        rest = "" if self.samples == self.of else f" of {self.of}"
        rows = "" if self.rows == self.samples else f", {self.rows} rows"
        return (
            f"bf16 against f32 on {self.samples} samples{rest}{rows}: {self.top1_flips} top-1 flips, "
            f"{self.top5_changes} top-5 sets changed, largest difference {self.max_difference:.2e}"
        )


def check_precision(
    engine: ArrayEngine,
    reference: ArrayEngine,
    plan: BatchPlan,
    read: ReadBatch,
    *,
    axis: int,
    samples: int | None,
) -> PrecisionCheck:
    """Return how the answers of `engine` differ from those of `reference` on at least `samples`, None for all.

    Whole batches are computed, spread evenly over the run, since lists are often sorted by class. Compared is the
    first output of several floating-point numbers a row, without its padding; `axis` is the batch's.
    """
    wanted: list[Array] = []
    found: list[Array] = []
    numbers = _spread(plan, samples)
    for number in numbers:
        arrays = read(number)
        wanted += _real_rows(reference.run(arrays), plan, number, axis)
        found += _real_rows(engine.run(arrays), plan, number, axis)
    checked = sum(entry[0].samples for number in numbers for entry in plan.batch(number))
    flips, changes, largest = compare_rows(np.concatenate(wanted), np.concatenate(found))
    return PrecisionCheck(checked, plan.samples, sum(map(len, wanted)), flips, changes, largest)


def compare_rows(wanted: Array, found: Array) -> tuple[int, int, float]:
    """Return, of two arrays (rows, classes), how many rows differ in the best class, how many in the set of the five
    best, and the largest difference. Of equal scores the lower class is the better.
    """
    orders = [np.argsort(-rows, axis=1, kind="stable")[:, :5] for rows in (wanted, found)]
    best, others = orders
    flips = int((best[:, 0] != others[:, 0]).sum())
    changes = int((np.sort(best, axis=1) != np.sort(others, axis=1)).any(axis=1).sum())
    return flips, changes, float(np.abs(wanted.astype(np.float64) - found).max())


def _spread(plan: BatchPlan, samples: int | None) -> list[int]:
    """Return the numbers of the batches to compute."""
    if samples is None:
        return list(range(plan.runs))
    per_batch = -(-plan.samples // plan.runs)
    count = min(plan.runs, -(-samples // per_batch))
    return [place * plan.runs // count for place in range(count)]


def _real_rows(outputs: Sequence[Array], plan: BatchPlan, number: int, axis: int) -> Iterator[Array]:
    """Yield for each file of the batch the rows (rows, scores) of its samples."""
    shares = split_outputs(outputs, plan.files_per_batch, axis)
    place = next((at for at, array in enumerate(shares[0]) if _is_scores(array, axis)), 0)
    for entry, share in zip(plan.batch(number), shares, strict=False):
        rows = np.moveaxis(share[place], axis, 0)
        real = len(rows) * entry[0].samples // entry[0].rows
        yield rows.reshape(len(rows), -1)[:real]


def _is_scores(array: Array, axis: int) -> bool:
    return array.dtype.kind == "f" and array.size > array.shape[axis]
