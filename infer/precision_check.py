"""What bfloat16 changes: the same inputs are computed in float32 too, and both results are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from infer.batches.batch_plan import BatchPlan
from infer.batches.reading import ReadBatch
from infer.batches.running import split_outputs
from infer.engines.base import ArrayEngine
from infer.engines.tensor_specs import Array
from vidom.parity import Tolerance, compare

__all__ = ["DEFAULT_SAMPLES", "PrecisionCheck", "check_precision", "compare_rows"]

DEFAULT_SAMPLES = 32


@dataclass(frozen=True)
class PrecisionCheck:
    """How rows of scores in bfloat16 differ from those in float32 of the same inputs.

    `top1_flips` counts rows whose best class changed, `top5_changes` those whose set of five best classes changed;
    `max_difference` is the largest of any score. `of` is the number of samples of the run.
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
        facts = asdict(self)
        if not math.isfinite(self.max_difference):
            facts["max_difference"] = None
        return {"bf16_against_f32": facts}

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
    """Return how the rows of `engine` differ from those of `reference` on at least `samples`, None for all.

    Complete batches are computed, spread evenly over the run, since lists are often sorted by class. The first output
    with several floating-point numbers per row is compared, without its padding; `axis` is that of the batch.
    """
    exact: list[Array] = []
    measured: list[Array] = []
    numbers = _spread(plan, samples)
    for number in numbers:
        arrays = read(number)
        exact += _real_rows(reference.run(arrays), plan, number, axis)
        measured += _real_rows(engine.run(arrays), plan, number, axis)
    checked = plan.samples_in(sum(entry[0].real_rows for number in numbers for entry in plan.batch(number)))
    flips, changes, largest = compare_rows(np.concatenate(exact), np.concatenate(measured))
    return PrecisionCheck(checked, plan.samples, sum(map(len, exact)), flips, changes, largest)


def compare_rows(reference: Array, measured: Array) -> tuple[int, int, float]:
    """Return, of two arrays [rows, classes], the rows whose best class changed, those whose set of five best changed,
    and the largest difference, infinite where a number is not finite. See `vidom.parity.compare`.
    """
    parity = compare("bf16", batch_size=1, rows=(reference, measured), tolerance=Tolerance.of("bfloat16"))
    return len(parity.flips), parity.top5_changes, parity.max_rows


def _spread(plan: BatchPlan, samples: int | None) -> list[int]:
    """Return the numbers of the batches to compute."""
    if samples is None:
        return list(range(plan.runs))
    per_batch = -(-plan.real_rows // plan.runs)
    count = min(plan.runs, -(-samples * plan.views // per_batch))
    return [place * plan.runs // count for place in range(count)]


def _real_rows(outputs: Sequence[Array], plan: BatchPlan, number: int, axis: int) -> Iterator[Array]:
    """Yield for each file of the batch the rows (rows, scores) of its samples."""
    shares = split_outputs(outputs, plan.files_per_batch, axis)
    place = next((at for at, array in enumerate(shares[0]) if _is_scores(array, axis)), 0)
    for entry, share in zip(plan.batch(number), shares, strict=False):
        rows = np.moveaxis(share[place], axis, 0)
        real = len(rows) * entry[0].real_rows // entry[0].rows
        yield rows.reshape(len(rows), -1)[:real]


def _is_scores(array: Array, axis: int) -> bool:
    return array.dtype.kind == "f" and array.size > array.shape[axis]
