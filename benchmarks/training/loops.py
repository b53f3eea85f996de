"""Clips a second of vidom's training loop, and of a bare loop in plain torch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from networks.deployable import along_channels
from networks.loading import build_network
from train.clips.clip_loader import ClipSource
from train.clips.epochs import ClipKey
from train.learning.parameter_groups import build_optimizer
from train.train_options import RunOptions
from train.training import train_on
from vidom.formats.recipe import Recipe

__all__ = ["Precision", "ResidentClips", "bare_speed", "our_speed"]

Precision = Literal["no", "bf16", "fp16"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UP = 5


@dataclass(frozen=True, eq=False)
class ResidentClips:
    """`count` times the same clip, in memory."""

    pixels: NDArray[np.uint8]
    count: int

    @classmethod
    def of(cls, recipe: Recipe, *, count: int = 100_000) -> ResidentClips:
        """Return noise of the recipe's training shape."""
        shape = recipe.training[1].images_shape
        return cls(np.random.default_rng(0).integers(0, 256, shape, np.uint8), count)

    def __len__(self) -> int:
        """The number of samples."""
        return self.count

    def write(self, key: ClipKey, out: NDArray[np.uint8]) -> int:
        """Write the clip, and return a label that depends on the sample."""
        np.copyto(out, self.pixels)
        return key[1] % 10


def our_speed(recipe: Recipe, clips: ClipSource, *, precision: Precision, steps: int, workers: int) -> float:
    """Return the clips a second of `train_on`, which writes its run to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(
            recipe=recipe,
            output_dir=Path(folder),
            precision=precision,
            steps=steps + _WARM_UP,
            workers=workers,
        )
        return train_on(clips, options, validation=None, data_sha256="").clips_per_s or 0.0


def bare_speed(
    recipe: Recipe,
    device: torch.device,
    *,
    precision: Precision,
    steps: int,
    channels_last: bool = False,
    compiled: bool = False,
) -> float:
    """Return the clips a second of a loop that trains on one batch, which is in the device's memory."""
    step = _bare_step(recipe, device, precision, channels_last=channels_last, compiled=compiled)
    for _ in range(_WARM_UP):
        step()
    _wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return steps * recipe.training[0].batch_size / (time.perf_counter() - began)


def _bare_step(
    recipe: Recipe, device: torch.device, precision: Precision, *, channels_last: bool, compiled: bool
) -> Callable[[], None]:
    section, views = recipe.training
    arguments = {**recipe.network.arguments(views), "num_classes": recipe.dataset.num_classes}
    network = build_network(recipe.network.arch, arguments).to(device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = torch.compile(network) if compiled else network
    optimizer = build_optimizer(network, section, lr=section.lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    mean, std = (along_channels(numbers, views).to(device) for numbers in (views.mean, views.std))
    shape = (section.batch_size, *views.sample_shape)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.arange(section.batch_size, device=device) % 10

    def step() -> None:
        with torch.autocast(device.type, _TYPES.get(precision), enabled=precision != "no"):
            loss = functional.cross_entropy(model((pixels.float() - mean) / std), labels)
        torch.autograd.backward(scaler.scale(loss))
        if section.clip_norm is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), section.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
