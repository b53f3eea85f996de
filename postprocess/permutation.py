"""Detection of labels and predictions that number the classes differently.

If a label list starts at 1, lacks a line or is in a different order than in training, a good model scores near 0. The
confusion matrix shows it: each class is consistently predicted as one other class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["best_mapping", "permutation_remark"]

IntArray = npt.NDArray[np.int64]

# A class with fewer samples may be predicted as one other class by chance; with fewer in total, so may several.
MIN_SAMPLES_OF_CLASS = 5
MIN_SAMPLES = 100
# The remapped classes must be this share of the counted classes, be predicted as their mapped class in this mean
# share of their samples, and as themselves in at most this share.
MIN_REMAPPED = 0.2
MIN_AS_MAPPED = 0.5
MAX_AS_ITSELF = 0.2

_EXAMPLES = 3


def permutation_remark(confusion: IntArray, names: Sequence[str] = ()) -> str | None:
    """Return a warning if labels and model seem to number the classes differently, else None.

    `confusion` is (classes, classes), labels in rows; `names` are the classes' names or empty. Classes of at least 5
    samples count, if they have 100 samples in total. A class is remapped if the best one-to-one mapping of true to
    predicted classes does not map it to itself. The warning is given if at least a fifth of the classes is remapped,
    and if these are predicted as their mapped class in at least half of their samples, as themselves in at most a
    fifth. Both are means over classes; a class without a mapped class counts as 0, so that a model with only one or
    two different predictions gives no warning. Of models that guess among 3 classes, with 100 samples, one in 400
    does; with more classes, almost none.
    """
    counts = confusion.sum(axis=1)
    rows = np.flatnonzero(counts >= MIN_SAMPLES_OF_CLASS)
    if counts[rows].sum() < MIN_SAMPLES:
        return None
    mapping = best_mapping(confusion, rows)
    others = [truth for truth in rows.tolist() if mapping.get(truth) != truth]
    if len(others) < MIN_REMAPPED * len(rows):
        return None
    shares = confusion / np.maximum(counts, 1)[:, None]
    as_mapped = float(np.mean([shares[truth, mapping[truth]] if truth in mapping else 0 for truth in others]))
    as_itself = float(np.mean(shares[others, others]))
    if as_mapped < MIN_AS_MAPPED or as_itself > MAX_AS_ITSELF:
        return None
    remapped = {truth: mapping[truth] for truth in others if truth in mapping}
    return (
        f"Warning: {_description(remapped, len(rows), names)}. On average {100 * as_mapped:.0f} % of the samples of "
        f"such a class are predicted so and {100 * as_itself:.0f} % as the class itself. Typical causes: the label "
        "list starts at 1, lacks a line, or is in a different order than in training. Compare the two lists; until "
        "they agree, the accuracy is not meaningful."
    )


def best_mapping(confusion: IntArray, rows: IntArray) -> dict[int, int]:
    """Return a one-to-one mapping of the classes `rows` to predicted classes; a class may be left without one.

    The largest cells of the confusion matrix, as shares of their rows, are taken first; of equal ones that on the
    diagonal. This is greedy, and optimal where each class is mostly predicted as one other class; other cases give no
    warning.
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


def _description(remapped: Mapping[int, int], count: int, names: Sequence[str]) -> str:
    ((offset, shifted),) = Counter(target - truth for truth, target in remapped.items()).most_common(1)
    constant = shifted > len(remapped) / 2
    chosen = [truth for truth in sorted(remapped) if not constant or remapped[truth] - truth == offset]
    pairs = [f"{_class(truth, names)} as {_class(remapped[truth], names)}" for truth in chosen]
    examples = ", ".join(pairs[:_EXAMPLES]) + (", ..." if len(pairs) > _EXAMPLES else "")
    if not constant:
        return f"{len(remapped)} of {count} classes are predicted as a different class ({examples})"
    shift = f"{shifted} of {count} classes are predicted with an offset of {offset:+d}"
    return f"is the label list shifted? {shift} ({examples})"


def _class(index: int, names: Sequence[str]) -> str:
    return f"{index} ({names[index]})" if names else str(index)
