"""The scores of one video, for what looks at a single sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infer.engines.base import Engine
from preprocess.sources.frames import FrameSource
from preprocess.tensors.pixels import Dtype
from preprocess.tensors.samples import make_sample
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe

__all__ = ["Scores", "sample_scores"]

Scores = npt.NDArray[np.float32]


def sample_scores(engine: Engine, source: FrameSource, recipe: Recipe) -> Scores:
    """Return the engine's scores of the video, shape (classes,), after the recipe's whole view plan.

    A model built for a larger batch is fed copies. Raises UsageError when the model takes other samples than
    the recipe makes or tells another number of classes apart, BadDataError for an unreadable video.
    """
    (spec,) = engine.inputs
    if spec.sample_shape != recipe.views.sample_shape or spec.dtype not in (np.float32, np.uint8):
        raise UsageError(
            f"{engine.path} takes {spec}, but a sample of the recipe {recipe.name} has the shape "
            f"{recipe.views.sample_shape} ({recipe.views.arithmetic}). Use the model's own recipe."
        )
    dtype: Dtype = "uint8" if spec.dtype == np.uint8 else "float32"
    sample = make_sample(source, recipe.views, dtype=dtype).tensor
    copies = np.broadcast_to(sample, spec.by_sample)
    scores = np.asarray(engine.run([copies.reshape(spec.shape)])[0][0], np.float32)
    if scores.shape != (recipe.dataset.num_classes,):
        raise UsageError(
            f"{engine.path} gives a sample {scores.shape} scores, the recipe {recipe.name} has "
            f"{recipe.dataset.num_classes} classes. Use the model's own recipe."
        )
    return scores
