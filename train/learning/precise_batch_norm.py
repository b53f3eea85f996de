"""Statistics of batch normalisation that belong to the network as it is, instead of a running average over training."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from train.clips.clip_loader import Batch
from train.learning.steps import NORMS, Trainer

__all__ = ["set_precise_statistics"]


def set_precise_statistics(trainer: Trainer, batches: Iterable[tuple[int, Batch]]) -> None:
    """Set the running statistics to the mean of those of the batches, over all devices.

    The network is in training mode, and each batch has the number of a step, so that clips are mixed as in that step.
    Nothing else is changed. Source: `do_preciseBN` of PaddleVideo (`paddlevideo/utils/precise_bn.py`), which keeps the
    first device's statistics.
    """
    norms = [one for one in trainer.network.modules() if isinstance(one, NORMS) and one.training]
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # Without a momentum torch averages the batches' statistics.
        norm.momentum = None
    with torch.no_grad():
        for number, batch in batches:
            if batch.indices:
                trainer.losses(batch, number)
    for norm, (momentum, counter) in zip(norms, before, strict=True):
        own = norm.get_buffer("num_batches_tracked")
        total = trainer.over_devices(own.clone())
        for statistic in (norm.get_buffer("running_mean"), norm.get_buffer("running_var")):
            statistic.copy_(trainer.over_devices(statistic * own) / total)
        norm.momentum = momentum
        own.copy_(counter)
