"""The input of an .om, which no tool shows without an NPU: from its build record, or from the clip store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from infer.batches.batch_plan import BatchPlan
from infer.batches.inputs import InputArgument, first_input, plan_batches
from infer.engines.base import ClipDtype
from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError, UsageError
from vidom.formats.built_models import read_built
from vidom.formats.clip_store import ClipStore, StoreHeader
from vidom.formats.npy import read_npy_header
from vidom.wording import shown

__all__ = ["OmPlan", "clip_dtype", "plan_om_batches", "recorded_samples"]

_CLIP_DTYPES: tuple[ClipDtype, ...] = get_args(ClipDtype)
_SHAPE = re.compile(r"--input_shape=(?P<name>[^:;]+):(?P<dims>-?\d{1,9}(,-?\d{1,9})*)")


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

    Shape and dtype of the input come from the first of these that has them: the record in `build.json` next to the
    model; the clip store's tensors times `batch`; a single sample of the store; the first file, whose size all others
    must have and `batch` of which form a batch. `dym_batch` is the batch chosen for a model that has several. The files
    of a model for AIPP hold uint8 pixels, channels last. Raises BadDataError or UsageError as `plan_batches` does.
    """
    first = first_input(argument)
    store = _store_of(first)
    entry = _record(model)
    recorded = _recorded_dtype(entry, model)
    dtype = recorded or np.dtype(store.header.dtype if store else "float32")
    classes = len(store.labels) if store else None
    spec = _recorded_spec(entry, model, dtype, dym_batch)
    if spec is not None:
        known_from, batch_known = "build.json", True
    elif store is not None:
        rows = dym_batch or batch or store.header.samples_per_file
        spec = _of_store(store.header, rows, dtype)
        batch_known = bool(dym_batch or batch)
        known_from = "the clip store and --batchsize" if batch_known else "the clip store"
    else:
        spec = _as_file(first, dym_batch or batch or 1, recorded)
        known_from, batch_known = "the first file", False
    return OmPlan(plan_batches(argument, [spec]), spec, known_from, batch_known, classes)


def clip_dtype(model: Path, asked: ClipDtype | None = None) -> ClipDtype:
    """Return what the clips for a model are: as `build.json` says, else as `asked`, else float32.

    Raises UsageError where the record contradicts what was asked, or states a dtype that clips do not have.
    """
    entry = _record(model)
    dtype = _recorded_dtype(entry, model)
    recorded = "aipp" if entry.get("frames_per_sample") else dtype.name if dtype else None
    for known in _CLIP_DTYPES:
        if known == (recorded or asked or "float32") and asked in (None, known):
            return known
    if asked:
        raise UsageError(
            f"The clips for {model} are {recorded} according to its build.json, not {asked}. Leave --dtype out."
        )
    raise UsageError(
        f"The input of {model} is {recorded} according to its build.json, which clips cannot be. Export the model with "
        f"--input_dtype {' or '.join(_CLIP_DTYPES)}."
    )


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


def _of_store(header: StoreHeader, rows: int, dtype: np.dtype[Any]) -> TensorSpec:
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
    command = entry.get("command")
    words = map(str, command) if isinstance(command, list) else ()
    found = next((match for word in words if (match := _SHAPE.fullmatch(word))), None)
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


def _recorded_dtype(entry: Mapping[str, Any], model: Path) -> np.dtype[Any] | None:
    name: Any = entry.get("input_dtype")
    if name is None:
        return None
    if not isinstance(name, str) or np.dtype(np.sctypeDict.get(name, "O")).kind not in "biuf":
        raise BadDataError(
            f"The build record of {model} states {shown(repr(name))} as dtype of its input, which no file can have. "
            "Build the .om again."
        )
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _as_file(first: Path, batch: int, dtype: np.dtype[Any] | None) -> TensorSpec:
    """Return an input that takes `batch` files like the first, of the dtype if it is known."""
    if first.suffix.lower() == ".npy":
        array = read_npy_header(first, what="input file")
        if not array.shape:
            raise BadDataError(f"The input file {first} holds a single number instead of samples.")
        return TensorSpec("input", (batch * array.shape[0], *array.shape[1:]), dtype or array.dtype)
    return TensorSpec("input", (batch, first.stat().st_size), np.dtype(np.uint8))
