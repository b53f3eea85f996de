"""The labelled videos that a recipe is run on: which they are, a digest of the list, and what decodes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import cv2

from preprocess.datasets.annotations import Annotation, read_annotations
from preprocess.datasets.pack_lists import read_pack_annotations
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe

__all__ = ["decoder_name", "list_digest", "list_samples"]


def list_samples(ann_file: Path, *, data_root: Path, recipe: Recipe) -> tuple[Annotation, ...]:
    """Return the list's samples, in its order, labels checked against the recipe's classes.

    Raises UsageError when `data_root` is no folder, BadDataError as `read_annotations` and `read_pack_annotations` do.
    """
    if not data_root.is_dir():
        raise UsageError(
            f"The data root {data_root} is not a folder. Pass the folder that {ann_file} is relative to."
        )
    classes = recipe.dataset.num_classes
    if ann_file.suffix == ".json":
        # StNet's lists name packs that lie in a folder of the list's name, `val.json` those in `val`.
        return read_pack_annotations(ann_file, data_root=data_root, folder=ann_file.stem, num_classes=classes)
    return read_annotations(ann_file, num_classes=classes)


def list_digest(annotations: Sequence[Annotation]) -> str:
    """Return a SHA-256 over the samples and their order, wherever the list lies and however it is spelt."""
    entries = json.dumps([asdict(annotation) for annotation in annotations]).encode()
    return hashlib.sha256(entries).hexdigest()


def decoder_name(annotation: Annotation, recipe: Recipe) -> str:
    """Return the library that decodes the sample, its version, and what it decodes."""
    packed = annotation.path.endswith(".pkl")
    if annotation.total_frames is None and not packed:
        return f"PyAV {version('av')} on videos"
    library = (
        f"OpenCV {cv2.__version__}" if recipe.views.pipeline == "mmaction2" else f"Pillow {version('pillow')}"
    )
    return f"{library} on {'packs' if packed else 'frames'}"
