"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from train.clips.clip_loader import Batch, Broken, ClipSource, clip_loader
from train.clips.epochs import Epochs
from train.interruption import delayed_interruption
from train.learning.precise_batch_norm import set_precise_statistics
from train.learning.schedules import rate_factor
from train.learning.steps import NotFiniteError, Trainer
from train.outputs.run_checkpoint import Progress
from train.outputs.run_log import RunLog, memory_mb
from train.validation import Validator
from vidom.errors import BadDataError, CheckFailedError

__all__ = ["Run", "Speed", "fit"]

_log = logging.getLogger(__name__)

# Besides the one at the end of each epoch, a checkpoint is written after this many seconds.
_SAVE_SECONDS = 900.0
_WARM_UP = 5


@dataclass
class Speed:
    """Clips of all devices and seconds of the steps after the first five, which warm up; waiting for clips counts."""

    clips: int = 0
    seconds: float = 0.0
    steps: int = 0

    def add(self, clips: int, seconds: float) -> None:
        """Add a step."""
        self.steps += 1
        if self.steps > _WARM_UP:
            self.clips += clips
            self.seconds += seconds

    @property
    def clips_per_s(self) -> float | None:
        """Clips a second, None before the sixth step."""
        return self.clips / self.seconds if self.seconds else None


@dataclass(frozen=True, eq=False)
class Run:
    """What a run trains, on what, and what becomes of it.

    `steps` is the number of the last step. `validator` is None for a performance run. `save(progress)` writes
    `last.pth`, and `best.pth` too where the last validation was the best; it is called on every device and writes on
    the first. `broken` collects which samples are unreadable, and why.
    """

    trainer: Trainer
    clips: ClipSource
    shape: tuple[int, ...]
    epochs: Epochs
    steps: int
    validator: Validator | None
    log: RunLog
    workers: int
    skip_broken: bool
    save: Callable[[Progress], None]
    broken: dict[str, str] = field(default_factory=dict)
    speed: Speed = field(default_factory=Speed)


def fit(run: Run, progress: Progress) -> Progress:
    """Train from `progress` to the run's last step, validate and save after epochs, and return the new progress.

    An interruption ends the run after the step in progress, with a checkpoint. Raises KeyboardInterrupt then,
    CheckFailedError for a loss that is not finite, BadDataError at the first broken sample unless the run skips them.
    """
    trainer, per_epoch = run.trainer, run.epochs.steps
    trainer.train_mode()
    keys = run.epochs.batches(device=trainer.accelerator.process_index, first=progress.step, last=run.steps)
    saved = before = time.monotonic()
    with delayed_interruption() as interruption:
        for batch in clip_loader(
            run.clips, keys, shape=run.shape, workers=run.workers, pin_memory=trainer.on_gpu
        ):
            epoch, rest = divmod(progress.step + 1, per_epoch)
            finished = not rest or progress.step + 1 == run.steps
            update = finished or rest % trainer.section.accumulate == 0
            progress = _step(run, progress, batch, began=before, update=update)
            if not rest:
                _set_precise_statistics(run, epoch)
            if finished and run.validator is not None and _validates(run, epoch):
                progress = _validated(run, run.validator, progress, epoch)
            # A checkpoint has no room for a gradient that waits for its update.
            stop = update and trainer.on_any_device(interruption.requested)
            if (
                finished
                or stop
                or (update and trainer.on_any_device(time.monotonic() - saved > _SAVE_SECONDS))
            ):
                run.save(progress)
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt
            before = time.monotonic()
    return progress


def _step(run: Run, progress: Progress, batch: Batch, *, began: float, update: bool) -> Progress:
    """Train on the batch, which was requested when `began`, log it, and return the progress after it."""
    waited = time.monotonic() - began
    trainer, step = run.trainer, progress.step
    _note_broken(run, batch.broken, "training")
    rate = trainer.set_rate(rate_factor(trainer.section, step, steps_per_epoch=run.epochs.steps))
    try:
        result = trainer.step(batch, step, update=update)
    except NotFiniteError as error:
        raise CheckFailedError(
            f"The loss of step {step} is {error}. The samples of the batch, as positions in the list from 0: "
            f"{', '.join(map(str, batch.indices))}. The last checkpoint in the output folder was written before. Lower "
            "train.lr, set train.clip_norm, use bf16 instead of fp16, or check these samples."
        ) from None
    seconds = time.monotonic() - began
    run.speed.add(result.clips, seconds)
    run.log.add(
        {
            "step": step,
            "epoch": step // run.epochs.steps,
            "loss": result.loss,
            "rate": rate,
            "grad_norm": result.grad_norm,
            "clips": result.clips,
            "clips_per_s": round(result.clips / seconds, 2),
            "data_wait": round(waited / seconds, 4),
            "memory_mb": round(memory_mb(trainer.accelerator.device), 1),
        }
    )
    run.log.advance(result.loss)
    return replace(progress, step=step + 1)


def _set_precise_statistics(run: Run, epoch: int) -> None:
    """Set the statistics of batch normalisation to those of the last of `epoch` epochs, if it is time for that."""
    trainer, per_epoch = run.trainer, run.epochs.steps
    precise = trainer.section.precise_batch_norm
    if precise is None or ((epoch - 1) % precise.every and epoch * per_epoch < run.steps):
        return
    first = (epoch - 1) * per_epoch
    keys = run.epochs.batches(
        device=trainer.accelerator.process_index,
        first=first,
        last=first + min(precise.batches, per_epoch),
    )
    batches = clip_loader(run.clips, keys, shape=run.shape, workers=run.workers, pin_memory=trainer.on_gpu)
    set_precise_statistics(trainer, enumerate(batches, first))


def _note_broken(run: Run, broken: Iterable[Broken], kind: str) -> None:
    for sample in broken:
        name = f"sample {sample.index} of the {kind} list"
        if not run.skip_broken:
            raise BadDataError(
                f"The {name} cannot be read. {sample.reason} Fix it and rerun the command, which continues, or use "
                "--on_bad skip to leave out such samples."
            )
        if name not in run.broken:
            _log.warning(f"The {name} is left out: {sample.reason}")
        run.broken[name] = sample.reason


def _validates(run: Run, epoch: int) -> bool:
    return epoch % run.trainer.section.validate_every == 0 or epoch * run.epochs.steps >= run.steps


def _validated(run: Run, validator: Validator, progress: Progress, epoch: int) -> Progress:
    """Validate the network of `epoch` finished epochs, log the accuracy, and return the progress with the best one."""
    found = validator()
    _note_broken(run, found.broken, "validation")
    metrics = found.metrics
    run.log.add(
        {
            "step": progress.step - 1,
            "epoch": epoch - 1,
            "top1": metrics.top1.value,
            "top5": metrics.top5.value,
            "n": metrics.n,
        }
    )
    _log.info(
        f"Epoch {epoch}: top-1 {metrics.top1.value:.4f}, top-5 {metrics.top5.value:.4f} of {metrics.n} clips."
    )
    if progress.best_top1 is not None and metrics.top1.value <= progress.best_top1:
        return progress
    return replace(progress, best_top1=metrics.top1.value, best_top5=metrics.top5.value, best_epoch=epoch)
