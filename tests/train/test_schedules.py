from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_sections import section

from train.learning.schedules import rate_factor

STNET = Path(__file__).parents[1] / "fixtures" / "training" / "mindspore" / "stnet_lr.npz"


def test_a_step_schedule_multiplies_from_its_milestones_on():
    settings = section(epochs=50, schedule={"type": "step", "milestones": [20, 40]})
    factors = [rate_factor(settings, epoch * 7 + 6, steps_per_epoch=7) for epoch in range(50)]
    assert factors == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 10, rel=1e-12)


def test_a_cosine_schedule_is_mmcv_s():
    # CosineAnnealingLrUpdaterHook with min_lr_ratio 0.02, by epoch.
    settings = section(epochs=10, schedule={"type": "cosine", "min_ratio": 0.02})
    for epoch in range(10):
        expected = 0.02 + 0.5 * (1 - 0.02) * (math.cos(math.pi * epoch / 10) + 1)
        assert rate_factor(settings, epoch * 3, steps_per_epoch=3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rising", [0.15, 0.3])
def test_one_cycle_is_torch_s(rising: float):
    settings = section(epochs=4, schedule={"type": "one_cycle", "rising": rising})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=100, pct_start=rising)
    for step in range(100):
        factor = rate_factor(settings, step, steps_per_epoch=25)
        assert 0.5 * factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_the_warm_up_rises_linearly_to_the_scheduled_rate():
    settings = section(
        epochs=4,
        schedule={"type": "step", "milestones": [1]},
        warmup={"epochs": 2, "start_ratio": 0.1},
    )
    factors = [rate_factor(settings, step, steps_per_epoch=5) for step in range(12)]
    assert factors[:5] == pytest.approx([0.1 + 0.09 * step for step in range(5)])
    assert factors[5:10] == pytest.approx([0.1 * (0.1 + 0.09 * step) for step in range(5, 10)])
    assert factors[10:] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("run", "lr", "schedule"),
    [
        ("A_sink", 0.01, {"type": "step", "milestones": [20, 40]}),
        ("B_sink", 0.001, {"type": "per_step", "every": 40}),
        ("B_eval_sink", 0.001, {"type": "per_step", "every": 40, "milestones": [20, 40]}),
    ],
)
def test_the_rates_of_both_generations_of_stnet_are_mindspore_s(
    run: str, lr: float, schedule: dict[str, Any]
):
    """The originals' callbacks ran in MindSpore 2.7 on a CPU, in float32; rates are those after them."""
    truth = np.load(STNET)
    after = dict(zip(truth[f"{run}/step"].tolist(), truth[f"{run}/lr"].tolist(), strict=True))
    epochs = int(truth[f"{run}/epoch"].max())
    settings = section(lr=lr, epochs=epochs, schedule=schedule)
    factors = {step: rate_factor(settings, step, steps_per_epoch=len(after) // epochs) for step in after}
    assert [lr * factor for factor in factors.values()] == pytest.approx(
        list(after.values()), rel=1e-5, abs=0
    )


def test_where_an_epoch_is_one_call_the_rate_of_stnet_falls_once_in_forty_epochs():
    by_step = section(epochs=90, schedule={"type": "per_step", "every": 40})
    by_epoch = section(epochs=90, schedule={"type": "step", "milestones": [40, 80]})
    factors = [
        [rate_factor(one, step, steps_per_epoch=1) for step in range(90)] for one in (by_step, by_epoch)
    ]
    assert factors[0] == pytest.approx(factors[1], rel=1e-12)
