"""A sample's scores from the mean of its views' rows, where each view is a separate file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidom.errors import BadDataError

__all__ = ["sample_scores"]

FloatArray = npt.NDArray[np.float32]


def sample_scores(means: FloatArray, average_clips: str) -> FloatArray:
    """Return the scores, shape (samples, classes), that a model of all views would have given.

    `means` are the views' mean rows, [samples, classes]. "prob": they are mean probabilities and stay as they are;
    "score": they are mean logits, and the result is their softmax over the classes (as in mmaction2). Raises
    BadDataError when the rows are of the other kind.
    """
    kinds = ("logits", "probabilities")
    expected, detected = kinds[average_clips == "prob"], kinds[_are_probabilities(means)]
    if expected != detected:
        raise BadDataError(
            f"The clip store averages its views as {expected} (average_clips {average_clips}), but the model gave "
            f"{detected}, so the views would be averaged differently. Export the model with --per_view "
            f"--average_clips {average_clips}, or pack with the recipe that it was exported from."
        )
    if average_clips == "prob":
        return means
    logits = means.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: FloatArray = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return scores


def _are_probabilities(rows: FloatArray) -> bool:
    # Half precision keeps the sum of a softmax within 0.01 of 1.
    return bool(rows.min() >= 0 and abs(rows.sum(axis=1, dtype=np.float64) - 1).max() <= 0.01)
