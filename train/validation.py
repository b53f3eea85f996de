"""The accuracy of a network on a validation list, every sample counted once on any number of devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from postprocess.metrics import Metrics, evaluate
from postprocess.scored import check_finite
from preprocess.tensors.training_clips import make_centre_clip
from train.clips.clip_loader import Broken, ClipSource, ListedVideos, clip_loader
from train.clips.epochs import ClipKey
from train.learning.steps import Trainer
from vidom.errors import BadDataError

__all__ = ["CentreClips", "Validation", "Validator"]


@dataclass(frozen=True)
class CentreClips(ListedVideos):
    """The centre clip of each video of a list, made as the test pipeline makes it."""

    def write(self, key: ClipKey, out: NDArray[np.uint8]) -> int:
        """Write the clip of the sample, the same in every epoch, and return its label."""
        _, views = self.recipe.training
        annotation = self.annotations[key[1]]
        make_centre_clip(self.source(annotation), views, out=out)
        return annotation.label


@dataclass(frozen=True)
class Validation:
    """The metrics of all readable samples, and those that are not."""

    metrics: Metrics
    broken: tuple[Broken, ...]


class Validator:
    """Validates a network on the clips of a source, `shape` each, on any number of devices.

    Batches are the same on any number of devices, dealt out one after another; so each sample is counted once, and its
    scores do not depend on the devices. The workers that decode stay from one validation to the next.
    """

    def __init__(
        self, source: ClipSource, trainer: Trainer, *, shape: tuple[int, ...], batch_size: int, workers: int
    ) -> None:
        accelerator = trainer.accelerator
        self._trainer = trainer
        samples, devices = len(source), accelerator.num_processes
        own = range(accelerator.process_index, math.ceil(samples / batch_size), devices)
        keys = [
            [(0, index) for index in range(batch * batch_size, min(samples, (batch + 1) * batch_size))]
            for batch in own
        ]
        self._loader = clip_loader(source, keys, shape=shape, workers=workers)

    def __call__(self) -> Validation:
        """Return the metrics of the network as it is, the same on all devices.

        Raises BadDataError without samples, and as `check_finite` does.
        """
        trainer, device = self._trainer, self._trainer.accelerator.device
        network = trainer.accelerator.unwrap_model(trainer.network, keep_torch_compile=False).eval()
        rows: list[tuple[int, NDArray[np.float32], int]] = []
        broken: list[Broken] = []
        with torch.inference_mode():
            for batch in self._loader:
                broken.extend(batch.broken)
                with trainer.accelerator.autocast():
                    logits = network(trainer.normalise(batch.pixels.to(device)))
                scores = logits.float().cpu().numpy()
                rows.extend(zip(batch.indices, scores, batch.labels.tolist(), strict=False))
        rows, broken = gather_object(rows), gather_object(broken)
        trainer.train_mode()
        if not rows:
            raise BadDataError(f"No sample of the validation list can be read. The first: {broken[0].reason}")
        rows.sort(key=lambda row: row[0])
        indices, scores, labels = zip(*rows, strict=True)
        check_finite(np.stack(scores), indices)
        metrics = evaluate(np.stack(scores), np.array(labels))
        return Validation(metrics, tuple(sorted(broken, key=lambda one: one.index)))
