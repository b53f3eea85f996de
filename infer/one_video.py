"""The scores of one video, by any engine, for commands that look at a single sample."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import numpy.typing as npt

from infer.engines.base import ArrayEngine, Engine, FileEngine, kept_if_failed
from preprocess.sources.frames import FrameSource
from preprocess.tensors.pixels import Dtype
from preprocess.tensors.samples import make_sample
from vidom.errors import UsageError
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe

__all__ = ["Scores", "sample_scores"]

Scores = npt.NDArray[np.float32]


def sample_scores(engine: Engine, source: FrameSource, recipe: Recipe) -> Scores:
    """Return the engine's scores of the video, shape (classes,), for the recipe's complete view plan.

    A batch larger than one is filled with copies. Raises UsageError when the model's input or number of classes is
    not the recipe's, BadDataError for an unreadable video, and what the engine raises.
    """
    scores_by = _by_files if isinstance(engine, FileEngine) else _by_arrays
    scores = scores_by(engine, source, recipe)  # type: ignore[arg-type]
    if scores.shape != (recipe.dataset.num_classes,):
        raise UsageError(
            f"{engine.path} returns {scores.shape} scores for a sample, the recipe {recipe.name} has "
            f"{recipe.dataset.num_classes} classes. Use the model's own recipe."
        )
    return scores


def _by_arrays(engine: ArrayEngine, source: FrameSource, recipe: Recipe) -> Scores:
    (spec,) = engine.inputs
    if spec.sample_shape != recipe.views.sample_shape or spec.dtype not in (np.float16, np.float32, np.uint8):
        raise UsageError(
            f"{engine.path} takes {spec}, but a sample of the recipe {recipe.name} has the shape "
            f"{recipe.views.sample_shape} ({recipe.views.arithmetic}). Use the model's own recipe."
        )
    dtype: Dtype = "uint8" if spec.dtype == np.uint8 else "float32"
    sample = make_sample(source, recipe.views, dtype=dtype).tensor
    copies = np.broadcast_to(sample, spec.by_sample)
    return np.asarray(engine.run([copies.reshape(spec.shape)])[0][0], np.float32)


def _by_files(engine: FileEngine, source: FrameSource, recipe: Recipe) -> Scores:
    dtype: Dtype = "float32" if engine.input_dtype == "float32" else "uint8"
    sample = make_sample(source, recipe.views, dtype=dtype).tensor
    if engine.input_dtype == "aipp":  # channels last
        sample = np.moveaxis(sample, -3, -1)
    folder = Path(mkdtemp(prefix="vidom-sample-"))
    with kept_if_failed(folder):
        files = folder / "in"
        files.mkdir(mode=0o750)
        # ais_bench refuses files that the group or others may write.
        with open(os.open(files / "0.bin", os.O_WRONLY | os.O_CREAT, 0o640), "wb") as stream:  # noqa: PTH123
            stream.write(np.ascontiguousarray(sample).data)
        (entry,), _ = read_summary(engine.infer_files(files, folder / "res").summary)
        rows = read_output(entry.outfiles[0], classes=recipe.dataset.num_classes)
    if len(rows) != 1:
        raise UsageError(
            f"{engine.path} returns {len(rows)} rows of scores for a sample of the recipe {recipe.name}, so it takes "
            f"smaller samples, such as single views. Use the model's own recipe, exported without --per_view."
        )
    return np.asarray(rows[0], np.float32)
