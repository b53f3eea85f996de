"""Which clips each step trains on: a pure function of seed and step, on any number of devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["ClipKey", "Epochs"]

ClipKey = tuple[int, int]
"""(epoch, index of the sample): what a clip's random decisions depend on, besides the seed."""


@dataclass(frozen=True)
class Epochs:
    """The order in which `samples` are trained on: each once an epoch, in batches of `batch_size` for each device.

    A step takes `batch_size * devices` samples of the epoch's permutation, of which device d gets every `devices`-th
    from its d-th on, as with mmcv's DistributedSampler. The last step of an epoch takes what is left, without padding.
    """

    samples: int
    batch_size: int
    devices: int
    seed: int

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return math.ceil(self.samples / (self.batch_size * self.devices))

    def batches(self, *, device: int, first: int, last: int) -> Iterator[list[ClipKey]]:
        """Yield the samples of this device for the steps from `first` up to `last`, which count over all epochs.

        A device for which the last step of an epoch has no sample gets an empty list.
        """
        size = self.batch_size * self.devices
        for epoch in range(first // self.steps, math.ceil(last / self.steps)):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
            for step in range(self.steps):
                if first <= epoch * self.steps + step < last:
                    chosen = order[step * size : (step + 1) * size][device :: self.devices]
                    yield [(epoch, int(index)) for index in chosen]
