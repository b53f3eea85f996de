"""Learning rates and parameter groups of PP-TSM's recipes against those of PaddleVideo's own objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from train_sections import section

from networks.loading import build_network
from train.learning.parameter_groups import build_optimizer
from train.learning.schedules import rate_factor
from vidom.formats.recipe import load_recipe

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "paddlevideo"
RATES = np.load(FIXTURES / "pptsm_lr.npz")
GROUPS = json.loads((FIXTURES / "parameter_groups.json").read_text())["depths"]
RECIPES = {
    "pptsm_k400_uniform": ("frames_uniform", "videos_uniform"),
    "pptsm_ucf101_66": ("videos_uniform_epochs20",),
    "pptsm_k400_dense": ("frames_dense",),
    "pptsm_ucf101_66_dense": ("frames_dense",),
    "pptsm_k400_dense_r101": ("frames_dense_r101",),
    "pptsm_ucf101_66_dense_r101": ("frames_dense_r101",),
}


@pytest.mark.parametrize("steps", [7, 49])
@pytest.mark.parametrize("name", RECIPES)
def test_learning_rates_of_the_recipes_are_the_original_s(name: str, steps: int):
    settings, _ = load_recipe(name).training
    for tag in RECIPES[name]:
        table = {key: RATES[f"{tag}/its{steps}/{key}"] for key in ("first40", "epoch_first", "epoch_last")}
        assert len(table["epoch_first"]) == settings.epochs
        firsts = [epoch * steps for epoch in range(settings.epochs)]
        numbers = {
            "first40": list(range(40)),
            "epoch_first": firsts,
            "epoch_last": [first + steps - 1 for first in firsts],
        }
        for key, expected in table.items():
            found = [settings.lr * rate_factor(settings, n, steps_per_epoch=steps) for n in numbers[key]]
            # The original adds up 1 / steps in float64; near the end of the curve the rate is a small difference.
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14 * settings.lr)


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": {"type": "factor", "epochs": 10, "start_ratio": 0.5}},
        {"schedule": {"type": "cosine", "by": "epoch"}},
        {"epochs": 20},
    ],
    ids=["a factor in the warm-up", "by epoch", "as long as the training"],
)
def test_other_schedules_differ_from_the_original_s(wrong: dict[str, object]):
    right, _ = load_recipe("pptsm_k400_uniform").training
    entries = right.model_dump() | wrong
    other = type(right).model_validate(entries)
    table = RATES["frames_uniform/its7/epoch_last"][:20]
    found = [right.lr * rate_factor(other, 7 * epoch + 6, steps_per_epoch=7) for epoch in range(20)]
    assert np.abs(np.array(found) / table - 1).max() > 1e-3


@pytest.mark.parametrize("depth", [50, 101])
def test_parameter_groups_are_the_original_s(depth: int):
    settings = section(
        lr=0.01, optimizer={"type": "sgd", "nesterov": True, "weight_decay": 1e-4, "groups": "pptsm"}
    )
    with torch.device("meta"):
        network = build_network("pptsm", {"depth": depth, "num_classes": 66})
    optimizer = build_optimizer(network, settings, lr=settings.lr)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    truth = GROUPS[str(depth)]
    assert len(optimizer.param_groups) == len(truth)
    for found, expected in zip(optimizer.param_groups, truth, strict=True):
        assert [names[id(parameter)] for parameter in found["params"]] == expected["names"]
        assert found["lr"] == pytest.approx(0.01 * expected["rate"], rel=1e-15)
        assert found["weight_decay"] == expected["weight_decay"]
        assert (found["momentum"], found["nesterov"], found["dampening"]) == (0.9, True, 0)
