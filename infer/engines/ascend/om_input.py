"""The input of an .om, which no tool shows without an NPU: from its build record, or from the clip store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.batches.inputs import BatchPlan, InputArgument, first_input, plan_batches
from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError, UsageError
from vidom.formats.built_models import read_built
from vidom.formats.clip_store import ClipStore, StoreHeader
from vidom.formats.npy import read_npy_header

__all__ = ["OmPlan", "plan_om_batches", "recorded_samples"]

_SHAPE = re.compile(r"--input_shape=(?P<name>[^:;]+):(?P<dims>-?\d+(,-?\d+)*)")


@dataclass(frozen=True)
class OmPlan:
    """The batches, the input they are for, and the source of this knowledge (`known_from`).

    `batch_known` is False where only the size of a single sample is known; ais_bench then prints the batch. `classes`
    is the number of values in a row of the output, None if unknown.
    """

    batches: BatchPlan
    spec: TensorSpec
    known_from: str
    batch_known: bool
    classes: int | None


def plan_om_batches(
    argument: InputArgument, model: Path, *, batch: int | None, dym_batch: int | None
) -> OmPlan:
    """Return the batches of `--input`, every file checked against what is known of the model's input.

    The input's shape comes from the first of these that is available: the record in `build.json` next to the model;
    the clip store's tensors times `batch`; a single sample of the store; the first file, whose size all others must
    have and `batch` of which form a batch. `dym_batch` is the batch chosen for a model that has several. The files of
    a model for AIPP hold uint8 pixels, channels last. Raises BadDataError or UsageError as `plan_batches` does.
    """
    first = first_input(argument)
    store = _store_of(first)
    entry = _record(model)
    dtype = np.dtype(store.header.dtype if store else entry.get("input_dtype", "float32"))
    classes = len(store.labels) if store else None
    spec = _recorded_spec(entry, model, dtype, dym_batch)
    if spec is not None:
        known_from, batch_known = "build.json", True
    elif store is not None:
        rows = dym_batch or batch or store.header.samples_per_file
        spec = _of_store(store.header, rows)
        batch_known = bool(dym_batch or batch)
        known_from = "the clip store and --batchsize" if batch_known else "the clip store"
    else:
        spec, known_from, batch_known = _as_file(first, dym_batch or batch or 1), "the first file", False
    return OmPlan(plan_batches(argument, [spec]), spec, known_from, batch_known, classes)


def recorded_samples(model: Path) -> int | None:
    """Return the batch of a model for AIPP, which its dimension 0 is not, from `build.json`; None for others."""
    entry = _record(model)
    if entry.get("frames_per_sample") is None:
        return None
    spec = _recorded_spec(entry, model, np.dtype(np.uint8), None)
    return spec.rows if spec else None


def _recorded_spec(
    entry: Mapping[str, Any], model: Path, dtype: np.dtype[Any], dym_batch: int | None
) -> TensorSpec | None:
    """Return the input in a build record; for AIPP, whose output is [N, 3, height, width], the input of AIPP."""
    shape, frames = _recorded_shape(entry, dym_batch), entry.get("frames_per_sample")
    if shape is None or frames is None:
        return None if shape is None else TensorSpec("input", shape, dtype)
    if not isinstance(frames, int) or frames < 1 or len(shape) != 4 or shape[0] % frames:
        raise BadDataError(
            f"The build record of {model} states {frames!r} frames per sample of an input {shape}. Build the .om "
            "again."
        )
    count, channels, height, width = shape
    return TensorSpec("input", (count, height, width, channels), np.dtype(np.uint8), frames)


def _of_store(header: StoreHeader, rows: int) -> TensorSpec:
    dtype = np.dtype(header.dtype)
    if header.layout == "NHWC":
        return TensorSpec("input", (rows * header.shape[0], *header.shape[1:]), dtype, header.shape[0])
    return TensorSpec("input", (rows, *header.shape), dtype)


def _store_of(first: Path) -> ClipStore | None:
    clips = first.resolve().parent
    if clips.name != "clips" or not (clips.parent / "manifest.json").exists():
        return None
    return ClipStore.open(clips.parent)


def _record(model: Path) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = read_built(model.parent).get(model.name, {}).get("made_from", {})
    return entry


def _recorded_shape(entry: Mapping[str, Any], dym_batch: int | None) -> tuple[int, ...] | None:
    found = next((match for word in entry.get("command", ()) if (match := _SHAPE.fullmatch(word))), None)
    sizes = [int(size) for size in found["dims"].split(",")] if found else []
    if not sizes or min(sizes[1:], default=1) < 1:
        return None
    batch, *sample = sizes
    if batch < 0 and dym_batch is None:
        raise UsageError(
            "The model was compiled for several batch sizes (--dynamic_batch_size), so one must be chosen: "
            "--dymBatch N."
        )
    return (dym_batch if batch < 0 and dym_batch else batch, *sample)


def _as_file(first: Path, batch: int) -> TensorSpec:
    """Return an input that takes `batch` files like the first."""
    if first.suffix.lower() == ".npy":
        array = read_npy_header(first, what="input file")
        if not array.shape:
            raise BadDataError(f"The input file {first} holds a single number instead of samples.")
        return TensorSpec("input", (batch * array.shape[0], *array.shape[1:]), array.dtype)
    return TensorSpec("input", (batch, first.stat().st_size), np.dtype(np.uint8))
