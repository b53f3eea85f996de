"""The learning rate as a pure function of the step: a factor of each parameter group's `initial_lr`."""

from __future__ import annotations

import math

from vidom.formats.recipe_parts.train_section import (
    CosineSchedule,
    OneCycleSchedule,
    PerStepSchedule,
    StepSchedule,
    TrainSection,
)

__all__ = ["rate_factor"]

# The defaults of torch.optim.lr_scheduler.OneCycleLR: the first and the last rate as parts of the highest.
_FIRST, _LAST = 1 / 25, 1 / 25e4


def rate_factor(section: TrainSection, step: int, *, steps_per_epoch: int) -> float:
    """Return the factor of the rate at `step`, which counts steps from 0.

    As in mmcv's LrUpdaterHook the rate of an epoch is computed from the initial one, not from the last; the warm-up is
    counted in steps. Its types are mmcv's `linear` and PaddleVideo's CustomWarmupCosineDecay.
    """
    warmup = section.warmup
    steps = max(1, round(warmup.epochs * steps_per_epoch)) if warmup else 0
    if warmup is None or step >= steps:
        return _scheduled(section, step, steps_per_epoch)
    done = step / steps
    if warmup.type == "line":
        return warmup.start_ratio * (1 - done) + _scheduled(section, steps, steps_per_epoch) * done
    return _scheduled(section, step, steps_per_epoch) * (1 - (1 - done) * (1 - warmup.start_ratio))


def _scheduled(section: TrainSection, step: int, steps_per_epoch: int) -> float:
    schedule, total = section.schedule, section.epochs * steps_per_epoch
    epoch = step // steps_per_epoch
    if isinstance(schedule, StepSchedule | PerStepSchedule):
        times = sum(epoch >= milestone for milestone in schedule.milestones)
        if isinstance(schedule, PerStepSchedule):
            times += _callbacks(step, steps_per_epoch, schedule.every)
        return schedule.gamma**times
    if isinstance(schedule, CosineSchedule):
        done = step / steps_per_epoch if schedule.by == "step" else epoch
        return _between(1, schedule.min_ratio, done / (schedule.epochs or section.epochs))
    return _one_cycle(schedule, step, total)


def _callbacks(step: int, steps_per_epoch: int, every: int) -> int:
    """Return how many of the steps 1 to `step` are, in whole epochs, a multiple of `every`."""
    period = every * steps_per_epoch
    complete, rest = divmod(step + 1, period)
    # Step 0, which never was, would count too.
    return complete * steps_per_epoch + min(rest, steps_per_epoch) - 1


def _one_cycle(schedule: OneCycleSchedule, step: int, total: int) -> float:
    top = schedule.rising * total - 1
    if step <= top:
        return _between(_FIRST, 1, step / top if top else 1)
    return _between(1, _LAST, (step - top) / max(1, total - 1 - top))


def _between(first: float, last: float, done: float) -> float:
    """Return the value at the part `done` of half a cosine from `first` to `last`."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * min(done, 1)))
