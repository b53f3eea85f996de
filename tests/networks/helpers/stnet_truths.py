"""The weights and inputs of MindSpore's reference outputs of StNet, rebuilt from their rules."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from networks.stnet import StNet

LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
CALM = {
    r"layer\d\.\d+\.bn3\.gamma": 0.25,
    r"layer\d\.0\.down_sample_layer\.1\.gamma": 0.5,
    r"temp\d\.bn1\.bn2d\.gamma": 0.5,
}
FRAMES, SIZE = 35, 224


def mindspore_name(key: str) -> str:
    """Return MindSpore's name of the tensor `key` of our state dict."""
    owner, _, leaf = key.rpartition(".")
    last = owner.rpartition(".")[2]
    normalisation = last.startswith("bn") or owner.endswith("downsample.1")
    owner = owner.replace("downsample", "down_sample_layer")
    if re.fullmatch(r"temp\d\.bn1", owner):
        owner += ".bn2d"
    return f"{owner}.{LEAVES[leaf] if normalisation else leaf}"


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the "plain" tensor of a MindSpore parameter, determined by its name."""
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    match name.rpartition(".")[2]:
        case "moving_variance":
            values = 1.0 + 0.1 * np.abs(normal)
        case "gamma":
            values = 1.0 + 0.1 * normal
        case "weight":
            values = normal * math.sqrt(2.0 / math.prod(shape[1:]))
        case _:
            values = 0.1 * normal
    return values.astype(np.float32)


def calm_gain(name: str) -> float:
    """Return the factor of the "calm" variant, which keeps activations and logits of order one."""
    return next((gain for pattern, gain in CALM.items() if re.fullmatch(pattern, name)), 1.0)


def reference_weights(keys: Mapping[str, Tensor], *, variant: str = "calm") -> dict[str, Tensor]:
    """Return the reference's weights for the keys and shapes of this state dict."""
    weights = {}
    for key, tensor in keys.items():
        if not key.endswith("num_batches_tracked"):
            name = mindspore_name(key)
            gain = np.float32(calm_gain(name) if variant == "calm" else 1.0)
            weights[key] = torch.from_numpy(fill(name, tuple(tensor.shape)) * gain)
    return weights


def filled(*, shared: Mapping[str, Tensor] | None = None, variant: str = "calm", **arguments: Any) -> StNet:
    """Return a network in evaluation mode with the reference's weights.

    Tensors of `shared` with the right shapes are used instead, without a copy.
    """
    with torch.device("meta"):
        network = StNet(**arguments)
    taken = {
        key: (shared or {})[key]
        for key, tensor in network.state_dict().items()
        if key in (shared or {}) and (shared or {})[key].shape == tensor.shape
    }
    missing = {key: tensor for key, tensor in network.state_dict().items() if key not in taken}
    state = {**taken, **reference_weights(missing, variant=variant)}
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **state}, assign=True)
    return network.eval()


def structured_clip() -> np.ndarray:
    """Return [35, 3, 224, 224]: a smooth pattern in which every frame and colour differs."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    clip = np.empty((FRAMES, 3, SIZE, SIZE), np.float32)
    for frame in range(FRAMES):
        for colour in range(3):
            across, down = 1 + colour + frame % 4, 1 + (2 * colour + frame) % 5
            phase = 2 * np.pi * (across * columns + down * rows) / SIZE + 0.7 * frame + 1.3 * colour
            offset = 1.5 * np.sin(0.45 * frame + 2.1 * colour)
            clip[frame, colour] = offset + (0.5 + 0.04 * frame) * np.sin(phase)
    return clip


def reference_input(kind: str, *, layout: str) -> np.ndarray:
    """Return the input of a reference run: "noise" or "structured", in layout A or B."""
    if kind == "noise":
        return np.random.default_rng(0).standard_normal((1, 7, 15, SIZE, SIZE)).astype(np.float32)
    clip = structured_clip()
    if layout == "A":
        return clip.reshape(1, 7, 15, SIZE, SIZE)
    return np.ascontiguousarray(clip.transpose(1, 0, 2, 3))[None]
