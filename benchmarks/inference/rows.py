"""Measurements of each variant of running a network: interleaved seconds, and differences of the outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.inference.variants import Subject, Variant, opened, variants_of
from benchmarks.measuring.interleaved import interleave_opened
from benchmarks.measuring.node_time import non_convolution_share
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from infer.precision_check import compare_rows
from networks.deployable import INPUT_NAME
from vidom.system.machine import usable_cores

__all__ = ["Measured", "Row", "centred_logits", "measured"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """The measurements of one variant.

    `seconds` are those of the fastest run of a batch; `operators` and `slices` count the nodes of its graph and the
    Slices among them; `non_convolution_share` is the share (0 to 1) of ONNX Runtime's node time outside convolutions;
    `logits` is the largest difference from torch's logits without each row's mean, None for a different network;
    `flips` are, for bfloat16, the samples whose top-1 differs from float32, same engine and graph, and the total.
    """

    variant: Variant
    seconds: float
    operators: int | None
    slices: int | None
    non_convolution_share: float | None
    logits: float | None
    flips: tuple[int, int] | None


@dataclass(frozen=True)
class Measured:
    """All variants of one recipe at one batch size."""

    subject: Subject
    rows: tuple[Row, ...]

    def row(self, engine: str, graph: str, precision: str = "f32") -> Row | None:
        """Return the row of that variant on the CPU, None if it was not measured."""
        key = (engine, graph, precision, False)
        return next((row for row in self.rows if key == _key(row.variant)), None)


def _key(variant: Variant) -> tuple[str, str, str, bool]:
    return variant.engine, variant.graph, variant.precision, variant.gpu


def measured(subject: Subject, *, rounds: int, samples: int) -> Measured:
    """Return the interleaved seconds and the output differences of all variants, with one engine in memory at a time.

    bfloat16 is compared with float32 on `samples` samples, rounded up to full batches.
    """
    variants = variants_of(subject)
    outputs = {variant: _outputs_of(variant, subject, samples) for variant in variants}
    _log.info(f"{subject.name}: {len(variants)} interleaved variants, {rounds} rounds …")
    batch = subject.sample(0)
    seconds = interleave_opened(
        {variant.name: _opener(variant, subject, batch) for variant in variants}, rounds=rounds
    )
    truth = centred_logits(outputs[variants[0]][: subject.batch], softmax=subject.recipe.head.softmax)
    rows = []
    for variant in variants:
        operators = (
            count_operators(load_model(subject.graphs[variant.graph]))
            if variant.graph in subject.graphs
            else None
        )
        rows.append(
            Row(
                variant=variant,
                seconds=seconds[variant.name],
                operators=sum(operators.values()) if operators else None,
                slices=operators.get("Slice", 0) if operators else None,
                non_convolution_share=_share(variant, subject, batch),
                logits=_difference(truth, variant, outputs, subject),
                flips=_flips(variant, outputs),
            )
        )
    return Measured(subject, tuple(rows))


def _opener(variant: Variant, subject: Subject, batch: Array) -> Callable[[], Any]:
    @contextmanager
    def open_variant() -> Iterator[Callable[[], object]]:
        with opened(variant, subject) as rows:
            yield lambda: rows(batch)

    return open_variant


def _outputs_of(variant: Variant, subject: Subject, samples: int) -> Array:
    """Return the rows of the timed batch and, for OpenVINO, of further ones; batch number n has seed n."""
    batches = -(-samples // subject.batch) if variant.engine == "OpenVINO" else 1
    with opened(variant, subject) as rows:
        return np.concatenate([rows(subject.sample(seed)) for seed in range(batches)])


def _share(variant: Variant, subject: Subject, batch: Array) -> float | None:
    if variant.engine != "ONNX Runtime" or variant.gpu:
        return None
    return non_convolution_share(subject.graphs[variant.graph], {INPUT_NAME: batch}, usable_cores())


def _difference(
    truth: Array, variant: Variant, outputs: Mapping[Variant, Array], subject: Subject
) -> float | None:
    if variant.graph == "no shift":
        return None
    logits = centred_logits(outputs[variant][: subject.batch], softmax=subject.recipe.head.softmax)
    return float(np.abs(truth - logits).max())


def _flips(variant: Variant, outputs: Mapping[Variant, Array]) -> tuple[int, int] | None:
    if variant.precision == "f32":
        return None
    exact, rough = outputs[Variant(variant.engine, variant.graph)], outputs[variant]
    return compare_rows(exact, rough)[0], len(rough)


def centred_logits(rows: Array, *, softmax: bool) -> Array:
    """Return the logits of rows (rows, classes) minus each row's mean, in float64.

    The logarithm of a probability is the logit minus a constant of the row; small differences of probabilities near
    1 / classes thus stay visible.
    """
    exact = rows.astype(np.float64)
    logits = np.log(np.maximum(exact, np.finfo(np.float32).tiny)) if softmax else exact
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))
