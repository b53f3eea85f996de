"""Interleaved times of graphs in ONNX Runtime, with and without its own graph optimization."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benchmarks.measuring.interleaved import interleave
from export.surgery.model_file import load_model
from export.surgery.values import batch_of
from export.verification.probe import Probe, random_samples
from export.verification.session import Session

__all__ = ["measured_times", "sample_of"]

Feed = dict[str, npt.NDArray[Any]]


def sample_of(model: Path) -> Feed:
    """Return a random sample for the one input of `model`, by the input's name; a free batch is 1."""
    graph = load_model(model)
    probe = Probe.of(graph)
    shape = (batch_of(graph) or 1, *probe.sample_shape)
    return {probe.entry: random_samples(shape[0], shape[1:], probe.dtype)}


def measured_times(
    files: Sequence[Path | None], sample: Feed, *, rounds: int, threads: int
) -> list[tuple[float | None, float | None]]:
    """Return for each file the seconds of its fastest run with and without ONNX Runtime's own graph optimization.

    The files are interleaved, first all with it and then all without. None for no file.
    """
    columns = []
    for optimized in (True, False):
        variants = {
            str(place): partial(Session(path, threads=threads, optimized=optimized).run, sample)
            for place, path in enumerate(files)
            if path is not None
        }
        fastest = interleave(variants, rounds=rounds)
        columns.append([fastest.get(str(place)) for place in range(len(files))])
    return list(zip(*columns, strict=True))
