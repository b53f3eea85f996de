"""What the manifest of a clip store states about input files: dtype, shape, checksums, padding rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipFile, ClipStore, StoreHeader

__all__ = ["StoreFacts", "store_facts", "store_of"]

_MARKS = ("manifest.json", "manifest.journal.jsonl")


@dataclass(frozen=True)
class StoreFacts:
    """The files of one store by name; a row in them is one of the `views` of a sample."""

    folder: Path
    files: Mapping[str, ClipFile]
    views: int

    def clip_file(self, path: Path) -> ClipFile:
        """Return the manifest's entry of the file; raise BadDataError if there is none."""
        if path.name not in self.files:
            raise BadDataError(
                f"{path} is in the clips folder of the store {self.folder}, but not in its manifest. "
                "Move it away, or pack the store again."
            )
        return self.files[path.name]


def store_facts(folder: Path, spec: TensorSpec) -> StoreFacts | None:
    """Return the store whose `clips` folder this is, or None if it is not one.

    Raises BadDataError when the store is unfinished or damaged or a file is truncated, UsageError when its tensors do
    not fit the model input.
    """
    store = store_of(folder)
    if store is None:
        return None
    _check_fit(store, spec)
    store.check_sizes()
    files = {clip_file.name: clip_file for clip_file in store.files}
    return StoreFacts(store.folder, files, store.header.views_per_sample)


def store_of(folder: Path) -> ClipStore | None:
    """Return the store whose `clips` folder this is, or None; BadDataError when it is unfinished or damaged."""
    clips = folder.resolve()
    home = clips.parent
    if clips.name != "clips" or not any((home / name).exists() for name in _MARKS):
        return None
    if not (home / "manifest.json").exists():
        raise BadDataError(
            f"The clip store {home} is not finished: it has a journal and no manifest. Run the preprocess "
            "command again; it resumes where it stopped."
        )
    return ClipStore.open(home)


def _check_fit(store: ClipStore, spec: TensorSpec) -> None:
    header, shape = store.header, spec.sample_shape
    if header.shape == shape and np.dtype(header.dtype) == spec.dtype:
        return
    rows = "views" if header.views_per_sample > 1 else "samples"
    sums = (
        f"The clip store {store.folder} holds {header.dtype} {rows} of "
        f"{_product(header.shape, np.dtype(header.dtype).itemsize)}; the model's input {spec.name!r} takes "
        f"{spec.dtype} tensors of {_product(shape, spec.dtype.itemsize)}. "
    )
    by_aipp = spec.frames_per_sample is not None and spec.dtype == np.uint8
    if header.layout == "NHWC" and not by_aipp:
        raise UsageError(
            f"{sums}Its pixels, channels last, are for AIPP, which only NPUs have: run the .om of a model exported "
            f"with --input_dtype aipp, or pack with --dtype {spec.dtype} for this one."
        )
    if by_aipp and header.layout != "NHWC":
        raise UsageError(f"{sums}The model's AIPP takes pixels with channels last: pack with --dtype aipp.")
    if header.shape != shape:
        raise UsageError(sums + _remedy(header, shape))
    raise UsageError(f"{sums}{_dtype_remedy(header.dtype, spec.dtype)}")


def _dtype_remedy(packed: str, taken: np.dtype[Any]) -> str:
    exported = f"Export the model with --input_dtype {packed}"
    if taken == np.float16:
        return f"{exported}, or pack with --dtype float32 and run the .onnx, for which samples are rounded."
    return f"{exported}, or pack with --dtype {taken}." if taken in (np.float32, np.uint8) else f"{exported}."


def _remedy(header: StoreHeader, shape: tuple[int, ...]) -> str:
    if header.views_per_sample > 1:
        return "Export the model with --per_view from the recipe that the store was packed with."
    if header.layout == "frames":
        height, width = header.shape[-2:]
        return f"Export the model with --set views.frame_size={width}x{height}, as the store was packed."
    parts, *rest = header.shape
    if shape and shape[0] < parts and parts % shape[0] == 0 and shape[1:] == tuple(rest):
        return (
            "If the model was exported with --per_view, pack with --per_view too; otherwise pack the data set with "
            "the recipe that the model was exported from."
        )
    return "Pack the data set with the recipe that the model was exported from."


def _product(shape: tuple[int, ...], itemsize: int) -> str:
    return f"{'×'.join(map(str, shape))} × {itemsize} = {int(np.prod(shape)) * itemsize} bytes"
