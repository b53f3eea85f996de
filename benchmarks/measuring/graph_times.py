"""Graphs timed in turn in ONNX Runtime, with and without its own rewriting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.measuring.rotation import rotate
from export.surgery.model_file import load_model
from export.surgery.values import batch_of
from export.verification.probe import Probe

__all__ = ["measured_times", "sample_of"]

Feed = dict[str, npt.NDArray[Any]]


def sample_of(model: Path) -> Feed:
    """Return a random sample for the one input of `model`, by the input's name; a free batch is 1."""
    graph = load_model(model)
    probe = Probe.of(graph)
    shape = (batch_of(graph) or 1, *probe.sample_shape)
    generator = np.random.default_rng(0)
    if probe.dtype == np.uint8:
        return {probe.entry: generator.integers(0, 256, shape, dtype=np.uint8)}
    return {probe.entry: generator.standard_normal(shape, dtype=np.float32).astype(probe.dtype)}


def measured_times(
    files: Sequence[Path | None], sample: Feed, *, rounds: int, threads: int
) -> list[tuple[float | None, float | None]]:
    """Return for each file the seconds of its fastest run with and without ONNX Runtime's own rewriting.

    The files run in turn, all with it and then all without. None for no file.
    """
    levels = onnxruntime.GraphOptimizationLevel
    columns = []
    for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL):
        ways = {
            str(place): partial(_session(path, level, threads).run, None, sample)
            for place, path in enumerate(files)
            if path is not None
        }
        fastest = rotate(ways, rounds=rounds)
        columns.append([fastest.get(str(place)) for place in range(len(files))])
    return list(zip(*columns, strict=True))


def _session(path: Path, level: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
