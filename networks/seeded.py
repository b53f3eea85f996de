"""Seeded random weights, reproducible from key names and shapes alone."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["seeded_state_dict"]

_GAINS = {
    "fc_cls.weight": 2.0,
    "head.fc.weight": 8.0,
    "conv2._batch_norm.weight": 0.5,
    "conv2._batch_norm.bias": 0.5,
}


def seeded_state_dict(shapes: Mapping[str, Sequence[int]], *, seed: int) -> dict[str, Tensor]:
    """Return a tensor for every key of `shapes`, which depends only on the key's text, its shape and `seed`.

    Each array is made of its own normal numbers n (float64) from numpy's `default_rng(crc32(key) + seed)`, with
    crc32 over the key's UTF-8 bytes, by the last part of its key:

    - `num_batches_tracked`: the int64 (crc32(key) + seed) mod 1000;
    - `weight` with one dimension, a normalisation's scale: 1 + 0.1 n;
    - `running_var`: 1 + 0.1 |n|;
    - any other `weight`: n * sqrt(2 / fan_in); where a filter has more than three input channels, the filter's
      mean is subtracted from n first;
    - `bias`, `running_mean`: 0.1 n.

    Some are then scaled so that logits have the magnitude of a trained network's: classifiers (`fc_cls.weight` by 2,
    PP-TSM's `head.fc.weight` by 8) and, by 0.5, the last normalisation in PP-TSM's blocks (`conv2._batch_norm`),
    without which rounding errors grow to 1e-3 through 101 layers.

    Everything is computed in float64 and cast to float32 once. Filters with a zero sum make the logits depend on the
    clip: with plain He weights the positive means after each ReLU add up to a constant that dominates the input, so
    that a wrong shift or crop would hardly change the logits. `seed=0` gives, bit for bit, the weights of the reference
    outputs of mmaction2 in `tests/fixtures/mmaction2`.
    """
    return {key: torch.from_numpy(_array(key, tuple(shape), seed=seed)) for key, shape in shapes.items()}


def _array(key: str, shape: tuple[int, ...], *, seed: int) -> np.ndarray:
    key_seed = zlib.crc32(key.encode()) + seed
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.array(key_seed % 1000, dtype=np.int64)
    normal = np.random.default_rng(key_seed).standard_normal(shape)
    if leaf == "weight" and len(shape) == 1:
        values = 1 + 0.1 * normal
    elif leaf == "running_var":
        values = 1 + 0.1 * np.abs(normal)
    elif leaf == "weight":
        if shape[1] > 3:
            normal = normal - normal.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values = normal * np.sqrt(2 / math.prod(shape[1:]))
    else:
        values = 0.1 * normal
    gain = math.prod(gain for ending, gain in _GAINS.items() if key.endswith(ending))
    return (values * gain).astype(np.float32)
