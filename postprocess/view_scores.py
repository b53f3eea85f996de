"""A sample's scores from the mean of its views' rows, where views are apart and the scorer averages them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidom.errors import BadDataError

__all__ = ["sample_scores"]

FloatArray = npt.NDArray[np.float32]


def sample_scores(means: FloatArray, average_clips: str) -> FloatArray:
    """Return the scores, shape (samples, classes), that the whole sample's model would have given.

    `means` are the views' mean rows. "prob" takes them as they are, means of probabilities; "score" takes the
    softmax of mean logits (mmaction2's meaning of both words). Raises BadDataError when the rows are the other kind.
    """
    kinds = ("logits", "probabilities")
    wanted, found = kinds[average_clips == "prob"], kinds[_are_probabilities(means)]
    if wanted != found:
        raise BadDataError(
            f"The clip store averages its views as {wanted} (average_clips {average_clips}), but the model gave "
            f"{found}, so the result would be that of another way of averaging. Export the model with --per_view "
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
