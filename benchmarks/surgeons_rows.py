"""What is measured of a graph for the comparison of surgeons: operators, parity, and time in turn with the others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from export.surgery.census import Census
from export.surgery.equivalence import Difference
from export.surgery.model_file import load_model
from export.surgery.probe import Probe
from export.surgery.values import batch_of
from vidom.files import sha256_file
from vidom.machine import look_at_machine

__all__ = ["Conditions", "Graph", "conditions", "measured_times", "sample_of"]

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Graph:
    """A graph of the comparison.

    `seconds_optimised` and `seconds_as_written` are its fastest run with and without ONNX Runtime's own rewriting,
    None where the graph does not mean the same as the exported one. That has no `differences`.
    """

    name: str
    operators: Census
    changed_by: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds_optimised: float | None = None
    seconds_as_written: float | None = None

    @property
    def passed(self) -> bool:
        """Whether all that was compared is within its tolerance."""
        return all(difference.passed for difference in self.differences)

    def timed(self, optimised: float | None, as_written: float | None) -> Graph:
        """Return the graph with its times, in seconds."""
        return replace(self, seconds_optimised=optimised, seconds_as_written=as_written)


@dataclass(frozen=True)
class Conditions:
    """What all graphs of a table have in common."""

    model: str
    model_sha256: str
    input_shape: tuple[int, ...]
    onnxruntime: str
    processor: str
    threads: int
    rounds: int


def sample_of(model: Path) -> Feed:
    """Return a random sample for the one input of `model`, by the input's name; a free batch is 1."""
    graph = load_model(model)
    probe = Probe.of(graph)
    shape = ((batch_of(graph) or 1) * probe.rows_per_sample, *probe.row_shape)
    generator = np.random.default_rng(0)
    if probe.dtype == np.uint8:
        return {probe.entry: generator.integers(0, 256, shape, dtype=np.uint8)}
    return {probe.entry: generator.standard_normal(shape, dtype=np.float32).astype(probe.dtype)}


def conditions(model: Path, sample: Feed, *, rounds: int, threads: int) -> Conditions:
    """Return under what `model` is run on this machine."""
    (shape,) = (array.shape for array in sample.values())
    return Conditions(
        model=model.name,
        model_sha256=sha256_file(model),
        input_shape=shape,
        onnxruntime=onnxruntime.__version__,
        processor=look_at_machine(model.parent).processor,
        threads=threads,
        rounds=rounds,
    )


def measured_times(
    files: Sequence[Path | None], sample: Feed, *, rounds: int, threads: int
) -> list[tuple[float | None, float | None]]:
    """Return for each file the seconds of its fastest run with and without ONNX Runtime's own rewriting.

    The files run in turn, A B C A B C, so that what else the machine does meets all of them alike; a first run of
    each is not counted. None for no file.
    """
    levels = onnxruntime.GraphOptimizationLevel
    columns = []
    for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
        sessions = [None if path is None else _session(path, level, threads) for path in files]
        columns.append(_fastest(sessions, sample, rounds))
    return list(zip(*columns, strict=True))


def _fastest(sessions: Sequence[Any], sample: Feed, rounds: int) -> list[float | None]:
    runs: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds + 1):
        for session, seconds in zip(sessions, runs, strict=True):
            if session is not None:
                began = time.perf_counter()
                session.run(None, sample)
                seconds.append(time.perf_counter() - began)
    return [min(seconds[1:], default=None) for seconds in runs]


def _session(path: Path, level: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
