"""Whether a model seems to answer under other class numbers than the labels use.

A label list that starts at 1, lacks a line, or is in another order than the one that a model was trained with, makes
a good model score near 0. The confusion matrix shows it: each class is predicted as one and the same other class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["best_mapping", "permutation_remark"]

IntArray = npt.NDArray[np.int64]

# A class with fewer samples may be predicted as one other by chance; with fewer in all, so may several.
MIN_SAMPLES_OF_CLASS = 5
MIN_SAMPLES = 100
# The moved classes must be this share of the classes that count, be predicted as the class mapped to in this mean share
# of their samples, and as themselves in no more than that.
MIN_MOVED = 0.2
MIN_AS_MAPPED = 0.5
MAX_AS_ITSELF = 0.2

_EXAMPLES = 3


def permutation_remark(confusion: IntArray, names: Sequence[str] = ()) -> str | None:
    """Return what suggests that labels and model number the classes differently, or None where nothing does.

    `confusion` is (classes, classes), truth in rows; `names` are the classes' names or empty. Classes of at least 5
    samples count, if they have 100 samples together. Those are moved that the best one-to-one mapping of true to
    predicted classes does not give to themselves. The remark is made where at least a fifth of the classes is moved,
    and where these are predicted as the class mapped to in half of their samples or more, as themselves in a fifth
    or less. Both are means over classes, and a class for which none is left counts with 0, so that a model which
    always gives the same one or two answers does not look like this. Of models that guess among 3 classes, 100
    samples, one in 400 does; among more classes, next to none.
    """
    counts = confusion.sum(axis=1)
    rows = np.flatnonzero(counts >= MIN_SAMPLES_OF_CLASS)
    if counts[rows].sum() < MIN_SAMPLES:
        return None
    mapping = best_mapping(confusion, rows)
    others = [truth for truth in rows.tolist() if mapping.get(truth) != truth]
    if len(others) < MIN_MOVED * len(rows):
        return None
    shares = confusion / np.maximum(counts, 1)[:, None]
    as_mapped = float(np.mean([shares[truth, mapping[truth]] if truth in mapping else 0 for truth in others]))
    as_itself = float(np.mean(shares[others, others]))
    if as_mapped < MIN_AS_MAPPED or as_itself > MAX_AS_ITSELF:
        return None
    moved = {truth: mapping[truth] for truth in others if truth in mapping}
    return (
        f"Warning: {_told(moved, len(rows), names)}. Moved classes are predicted so in {100 * as_mapped:.0f} % of "
        f"their samples and as themselves in {100 * as_itself:.0f} %. A label list that starts at 1, lacks a line, or "
        "is in another order than the one the model was trained with looks like this: compare the two lists. Before "
        "they agree the accuracy says little."
    )


def best_mapping(confusion: IntArray, rows: IntArray) -> dict[int, int]:
    """Return for each class of `rows` one class of its own that its samples are predicted as, as far as they go.

    The fullest cells of the confusion matrix, in shares of their rows, are taken first; of equal ones that of the class
    itself. That is greedy: where each class is mostly predicted as one other it is also the best assignment, and
    elsewhere nothing is made of it.
    """
    shares = confusion[rows] / confusion[rows].sum(axis=1, keepdims=True)
    places, targets = np.nonzero(shares)
    truths = rows[places]
    order = np.lexsort((targets != truths, -shares[places, targets]))
    mapping: dict[int, int] = {}
    taken: set[int] = set()
    for truth, target in zip(truths[order].tolist(), targets[order].tolist(), strict=True):
        if truth not in mapping and target not in taken:
            mapping[truth] = target
            taken.add(target)
    return mapping


def _told(moved: Mapping[int, int], count: int, names: Sequence[str]) -> str:
    ((offset, shifted),) = Counter(target - truth for truth, target in moved.items()).most_common(1)
    constant = shifted > len(moved) / 2
    chosen = [truth for truth in sorted(moved) if not constant or moved[truth] - truth == offset]
    told = [f"{_class(truth, names)} as {_class(moved[truth], names)}" for truth in chosen]
    examples = ", ".join(told[:_EXAMPLES]) + (", ..." if len(told) > _EXAMPLES else "")
    if not constant:
        return f"{len(moved)} of {count} classes are predicted as another one ({examples})"
    where = f"{offset} further on" if offset > 0 else f"{-offset} before"
    return f"is the label list shifted? {shifted} of {count} classes are predicted as the class {where} ({examples})"


def _class(index: int, names: Sequence[str]) -> str:
    return f"{index} ({names[index]})" if names else str(index)
