"""One training step: forward, loss, backward, clip, update, on one device or several."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from train.clips.clip_loader import Batch
from vidom.formats.recipe_parts.train_section import TrainSection

__all__ = ["NORMS", "NotFiniteError", "StepResult", "Trainer", "mixture"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class NotFiniteError(Exception):
    """The loss is NaN or infinite; the text is its value."""


@dataclass(frozen=True)
class StepResult:
    """The mean loss over all devices' clips, the norm of the gradient before clipping, and the clips trained on.

    The norm is None for a step that only accumulates, and for one that the scaler of fp16 leaves out, since its
    gradient overflowed.
    """

    loss: float
    grad_norm: float | None
    clips: int


@dataclass(frozen=True, eq=False)
class Trainer:
    """A network with its optimizer on the device of this process."""

    accelerator: Accelerator
    network: nn.Module
    optimizer: Optimizer
    normalise: nn.Module
    section: TrainSection
    seed: int

    def set_rate(self, factor: float) -> float:
        """Set each parameter group's rate to `factor` times its initial one; return that of the first group."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def on_gpu(self) -> bool:
        """Whether the network is on a device with memory of its own."""
        return bool(self.accelerator.device.type != "cpu")

    def on_any_device(self, flag: bool) -> bool:
        """Return whether the flag is set on any device."""
        return bool(int(self.over_devices(torch.tensor(int(flag)))))

    def train_mode(self) -> None:
        """Put the network into training mode, except batch normalisation that the section freezes."""
        self.network.train()
        norms = [module for module in self.network.modules() if isinstance(module, NORMS)]
        kept = {"train": len(norms), "partial": 1, "frozen": 0}[self.section.batch_norm]
        for norm in norms[kept:]:
            norm.eval()

    def step(self, batch: Batch, number: int, *, update: bool = True) -> StepResult:
        """Train on the batch, this device's share of step `number`, and return the result over all devices.

        The loss is the mean over the clips of all devices, whatever their shares. Without `update` the gradient is kept
        for a later step. Random decisions depend on seed, step and device only. Raises NotFiniteError, on all devices,
        before the network is changed.
        """
        accelerator = self.accelerator
        self._seed(number)
        clips = int(self.over_devices(torch.tensor(len(batch.indices))))
        with nullcontext() if update else accelerator.no_sync(self.network):
            losses = self.losses(batch, number)
            # DDP averages gradients over devices.
            weight = accelerator.num_processes / max(1, clips) if batch.indices else 0.0
            loss = losses.sum() * weight
            mean = float(self.over_devices(loss.detach())) / accelerator.num_processes
            if not np.isfinite(mean):
                raise NotFiniteError(mean)
            accelerator.backward(loss / self.section.accumulate)
        if not update:
            return StepResult(mean, None, clips)
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(mean, norm, clips)

    def losses(self, batch: Batch, number: int) -> Tensor:
        """Return the loss of each clip of the batch, this device's share of step `number`: [n], on the device."""
        device = self.accelerator.device
        pixels = self.normalise(batch.pixels.to(device, non_blocking=True))
        labels = batch.labels.to(device, non_blocking=True)
        smoothing = self.section.label_smoothing
        with self.accelerator.autocast():
            if not self.section.mixup:
                return _cross_entropy(self.network(pixels), labels, smoothing)
            lam, partner = self._mixing(len(labels), number)
            logits = self.network(lam * pixels + (1 - lam) * pixels[partner])
            first, second = (
                _cross_entropy(logits, target, smoothing) for target in (labels, labels[partner])
            )
            return lam * first + (1 - lam) * second

    def _mixing(self, count: int, number: int) -> tuple[float, Tensor]:
        state = np.random.SeedSequence((self.seed, number, self.accelerator.process_index, 1))
        weight, partner = mixture(np.random.RandomState(state.generate_state(8)), count, self.section.mixup)
        return weight, partner.to(self.accelerator.device)

    def _clip(self) -> float | None:
        limit = self.section.clip_norm
        norm = float(
            self.accelerator.clip_grad_norm_(self.network.parameters(), np.inf if limit is None else limit)
        )
        return norm if np.isfinite(norm) else None

    def _seed(self, number: int) -> None:
        state = np.random.SeedSequence((self.seed, number, self.accelerator.process_index))
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))

    def over_devices(self, value: Tensor) -> Tensor:
        """Return the sum of the devices' values."""
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(value.to(self.accelerator.device), reduction="sum")  # type: ignore[no-any-return]


def mixture(random: np.random.RandomState, count: int, alpha: float) -> tuple[float, Tensor]:
    """Return the weight of a clip against its partner, one for all, and the partner of each: int64 [count].

    The partners come from the generator first, as in PaddleVideo's `Mixup` (Zhang et al., "mixup", 2018).
    """
    partner = torch.from_numpy(random.permutation(count))
    return float(random.beta(alpha, alpha)), partner


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
