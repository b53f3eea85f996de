"""What is measured of each way of running a network: seconds in turn with the others, and what its answers are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.inference.variants import Subject, Way, opened, ways_of
from benchmarks.measuring.node_time import non_convolution_share
from benchmarks.measuring.rotation import rotate_opened
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from export.tracing import INPUT_NAME
from infer.precision_check import compare_rows
from vidom.system.machine import usable_cores

__all__ = ["Measured", "Row", "centred_logits", "measured"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """What was measured of one way: the seconds of its fastest run of a batch, and

    `operators` and `slices`, how many nodes its graph has and how many of them are Slice;
    `beside_convolutions`, the share (0 to 1) of node time that is not convolution, which ONNX Runtime tells;
    `logits`, the largest difference from torch's logits, each row's mean removed; None for another network;
    `flips`, of bfloat16, the samples of another top-1 than in float32 by the same engine and graph, and of how many.
    """

    way: Way
    seconds: float
    operators: int | None
    slices: int | None
    beside_convolutions: float | None
    logits: float | None
    flips: tuple[int, int] | None


@dataclass(frozen=True)
class Measured:
    """All ways of one recipe at one batch size."""

    subject: Subject
    rows: tuple[Row, ...]

    def row(self, engine: str, graph: str, precision: str = "f32") -> Row | None:
        """Return the row of that way on the CPU, None where it was not measured."""
        wanted = (engine, graph, precision, False)
        found = (row for row in self.rows if wanted == _key(row.way))
        return next(found, None)


def _key(way: Way) -> tuple[str, str, str, bool]:
    return way.engine, way.graph, way.precision, way.gpu


def measured(subject: Subject, *, rounds: int, samples: int) -> Measured:
    """Return the seconds and the answers of all ways, measured in turn with one engine in memory at a time.

    `samples` is on how many samples bfloat16 is compared with float32, rounded up to whole batches.
    """
    ways = ways_of(subject)
    answers = {way: _answers(way, subject, samples) for way in ways}
    _log.info(f"{subject.name}: {len(ways)} ways in turn, {rounds} rounds …")
    batch = subject.sample(0)
    seconds = rotate_opened({way.name: _opener(way, subject, batch) for way in ways}, rounds=rounds)
    truth = centred_logits(answers[ways[0]][: subject.batch], softmax=subject.recipe.head.softmax)
    rows = []
    for way in ways:
        operators = (
            count_operators(load_model(subject.graphs[way.graph])) if way.graph in subject.graphs else None
        )
        rows.append(
            Row(
                way=way,
                seconds=seconds[way.name],
                operators=sum(operators.values()) if operators else None,
                slices=operators.get("Slice", 0) if operators else None,
                beside_convolutions=_share(way, subject, batch),
                logits=_difference(truth, way, answers, subject),
                flips=_flips(way, answers),
            )
        )
    return Measured(subject, tuple(rows))


def _opener(way: Way, subject: Subject, batch: Array) -> Callable[[], Any]:
    @contextmanager
    def open_way() -> Iterator[Callable[[], object]]:
        with opened(way, subject) as rows:
            yield lambda: rows(batch)

    return open_way


def _answers(way: Way, subject: Subject, samples: int) -> Array:
    """Return the rows of the batch that is timed and, for OpenVINO, of further ones; batch number n has seed n."""
    batches = -(-samples // subject.batch) if way.engine == "OpenVINO" else 1
    with opened(way, subject) as rows:
        return np.concatenate([rows(subject.sample(seed)) for seed in range(batches)])


def _share(way: Way, subject: Subject, batch: Array) -> float | None:
    if way.engine != "ONNX Runtime" or way.gpu:
        return None
    return non_convolution_share(subject.graphs[way.graph], {INPUT_NAME: batch}, usable_cores())


def _difference(truth: Array, way: Way, answers: Mapping[Way, Array], subject: Subject) -> float | None:
    if way.graph == "no shift":
        return None
    found = centred_logits(answers[way][: subject.batch], softmax=subject.recipe.head.softmax)
    return float(np.abs(truth - found).max())


def _flips(way: Way, answers: Mapping[Way, Array]) -> tuple[int, int] | None:
    if way.precision == "f32":
        return None
    wanted, found = answers[Way(way.engine, way.graph)], answers[way]
    return compare_rows(wanted, found)[0], len(found)


def centred_logits(rows: Array, *, softmax: bool) -> Array:
    """Return the logits of rows (rows, classes) less each row's mean, in float64.

    Of probabilities the logarithm is the logit less a number that is the same for the whole row, so that differences
    of probabilities near 1 / classes are not taken for agreement.
    """
    exact = rows.astype(np.float64)
    logits = np.log(np.maximum(exact, np.finfo(np.float32).tiny)) if softmax else exact
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))
