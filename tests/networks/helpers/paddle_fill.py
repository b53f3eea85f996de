"""The weights and clips of PaddleVideo's recorded outputs, rebuilt by the rules that came with them."""

from __future__ import annotations

import functools
import zlib

import numpy as np
import torch
from torch import nn

from networks.checkpoints.pptsm_weights import from_paddle, paddle_key

CLASSIFIER = "head.fc.weight"


@functools.cache
def paddle_array(key: str, shape: tuple[int, ...], *, damped: bool = False) -> np.ndarray:
    """Return the array of Paddle's `key` in Paddle's `shape`; `damped` scales last norms and the classifier by 1/4."""
    normal = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    owner, _, leaf = key.rpartition(".")
    if leaf == "_variance":
        values = 1 + 0.1 * np.abs(normal)
    elif leaf in ("_mean", "bias"):
        values = 0.1 * normal
    elif len(shape) == 1:
        values = 1 + 0.1 * normal
    else:
        values = normal * np.sqrt(2.0 / (shape[0] if len(shape) == 2 else np.prod(shape[1:])))
    last = owner.endswith("conv2._batch_norm") and leaf in ("weight", "bias")
    if damped and (last or key == CLASSIFIER):
        values = values * 0.25
    return values.astype(np.float32)


def fill(network: nn.Module, *, damped: bool) -> int:
    """Load the recorded weights into the network and return the CRC-32 of all of them."""
    crc = 0
    arrays = {}
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            shape = tuple(value.shape)
            theirs = paddle_key(key)
            arrays[theirs] = paddle_array(theirs, shape[::-1] if key == CLASSIFIER else shape, damped=damped)
            crc = zlib.crc32(arrays[theirs].tobytes(), crc)
    state = from_paddle({key: torch.from_numpy(array.copy()) for key, array in arrays.items()})
    network.load_state_dict(state, strict=False)
    network.eval()
    return crc


def recorded_clips(shape: tuple[int, ...], *, kind: str, seed: int = 0) -> np.ndarray:
    """Return normal noise or, for the kind "video", noise that grows from frame to frame around an offset."""
    generator = np.random.default_rng(seed)
    clips = generator.standard_normal(shape)
    if kind == "video":
        offsets = 1.5 * generator.standard_normal(shape[:3])
        growth = 0.25 + 0.25 * np.arange(shape[1], dtype=np.float64).reshape(1, -1, 1, 1, 1)
        clips = clips * growth + offsets[:, :, :, None, None]
    return clips.astype(np.float32)
