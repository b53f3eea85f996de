"""Parameter groups against those that mmaction2's own constructors made, parameter by parameter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from networks.loading import build_network
from train.learning.parameter_groups import build_optimizer
from vidom.formats.recipe import load_recipe

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "mmaction2"
TRUTHS = json.loads((FIXTURES / "optimizer_groups.json").read_text())


@pytest.mark.parametrize("name", ["tsm_ucf101", "tsm_sthv2", "i3d_k400"])
def test_groups_of_the_recipes_are_the_original_s(name: str):
    recipe = load_recipe(name)
    section, _ = recipe.training
    network = build_network(recipe.network.arch, recipe.network_arguments)
    optimizer = build_optimizer(network, section, lr=section.lr)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    truth = TRUTHS[name]["groups"]
    assert len(optimizer.param_groups) == len(truth)
    for found, expected in zip(optimizer.param_groups, truth, strict=True):
        assert [names[id(parameter)] for parameter in found["params"]] == expected["params"]
        for key in ("lr", "weight_decay", "momentum", "nesterov"):
            assert found[key] == pytest.approx(expected[key], rel=1e-15)
