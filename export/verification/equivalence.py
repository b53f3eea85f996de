"""The parity check after surgery: both graphs run on the same random samples."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import AverageClips
from export.verification.probe import Probe, Rows, StageOutput, random_samples
from export.verification.session import TIME_LIMIT
from vidom.errors import BadDataError
from vidom.parity import NUMBER_FORMATS, Parity, Tolerance, compare

__all__ = ["check_equivalence", "compare_outputs"]

# TSM at full size takes 1.5 s for each sample on two cores.
_LARGEST_DISTINCT = 8
# Both graphs compute in float32. They differ in the constants that surgery computed in bfloat16: five times 2^-8.
_WIDENED = Tolerance("bfloat16", logits=2e-2, rows=2e-2)


def check_equivalence(
    original: ir.Model,
    modified: ir.Model,
    *,
    average_clips: AverageClips = "score",
    rounds: int = 2,
    seed: int = 0,
    time_limit: float = TIME_LIMIT,
) -> tuple[Parity, ...]:
    """Return how far each output of `modified` is from that of `original` on `rounds` random batches.

    Up to 8 samples are distinct; a larger batch repeats them. Each graph runs at its own batch, a symbolic one as 2.
    The tolerance is that of the less precise of the two graphs; graphs in bfloat16 compute in float32 (`Probe`), and
    what surgery may change in them is less.

    Where the original has V rows per sample and the modified graph has one, the rows are averaged here as
    `average_clips` says: softmax of the mean logits for "score", mean of the rows for "prob".

    Raises BadDataError when ONNX Runtime rejects a graph or has not computed a batch after `time_limit` seconds, and
    when the rows of the two cannot be compared.
    """
    first, second = Probe.of(original), Probe.of(modified)
    if first.sample_shape != second.sample_shape or first.dtype != second.dtype:
        raise BadDataError(
            f"The two graphs take different samples: {first.dtype} {list(first.sample_shape)} and "
            f"{second.dtype} {list(second.sample_shape)}. They cannot be compared."
        )
    count = rounds * second.batch
    distinct = min(count, _LARGEST_DISTINCT)
    samples = random_samples(distinct, first.sample_shape, first.dtype, seed=seed)
    order = np.arange(count) % distinct
    before = first.run(samples, np.arange(distinct), time_limit=time_limit)
    after = second.run(samples, order, time_limit=time_limit)
    # The formats are listed from the most to the least precise one.
    least_precise = max(first.number_format, second.number_format, key=NUMBER_FORMATS.index)
    tolerance = Tolerance.of(least_precise)
    if least_precise == "bfloat16":
        tolerance = _WIDENED
    return tuple(
        compare_outputs(
            f"output {name}{second.remark}",
            _averaged(before[name], after[name], average_clips).at(order),
            after[name],
            batch_size=second.batch,
            tolerance=tolerance,
            samples=distinct,
        )
        for name in first.outputs
    )


def compare_outputs(
    stage: str,
    reference: StageOutput,
    candidate: StageOutput,
    *,
    batch_size: int,
    tolerance: Tolerance,
    samples: int,
) -> Parity:
    """Return the agreement of two stages in one output, whose rows correspond.

    Args:
        stage: what is compared, for the report.
        reference: the output of the stage before.
        candidate: the output to judge. Its logits may be the means over a sample's clips.
        batch_size: the batch at which the candidate ran.
        tolerance: how far the two may be apart.
        samples: how many of the samples are distinct.
    """
    logits, other = (item.rows if item.logits is None else item.logits for item in (reference, candidate))
    if logits.shape != other.shape and other.shape[1] == 1:
        logits = logits.mean(axis=1, keepdims=True)
    return compare(
        stage,
        batch_size=batch_size,
        logits=(logits, other),
        rows=(_flat(reference.rows), _flat(candidate.rows)),
        tolerance=tolerance,
        samples=samples,
    )


def _flat(rows: Rows) -> Rows:
    return rows.reshape(-1, rows.shape[-1])


def _averaged(output: StageOutput, other: StageOutput, average_clips: AverageClips) -> StageOutput:
    """Return `output` with the rows of each sample averaged, if `other` has one row per sample."""
    rows, averaged = output.rows, other.rows
    if rows.shape[1:] == averaged.shape[1:]:
        return output
    if averaged.shape[1] != 1 or rows.shape[2:] != averaged.shape[2:]:
        raise BadDataError(
            f"The original gives {list(rows.shape[1:])} for a sample and the modified graph "
            f"{list(averaged.shape[1:])}: neither the same rows nor their average."
        )
    if average_clips == "score" and output.logits is not None:
        return StageOutput(_softmax(output.logits.mean(axis=1, keepdims=True)), output.logits)
    return StageOutput(rows.mean(axis=1, keepdims=True), output.logits)


def _softmax(logits: Rows) -> Rows:
    powers: Rows = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: Rows = powers / powers.sum(axis=-1, keepdims=True)
    return normalised
