"""Build networks from the arguments of a recipe, and load their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from networks.checkpoints.checkpoint import save_mmaction2
from networks.loading import build_network, load_network
from networks.seeded import seeded_state_dict
from vidom.errors import BadDataError, UsageError
from vidom.files import sha256_file
from vidom.formats.recipe import load_recipe

ARGUMENTS = {"depth": 10, "num_classes": 3, "base_channels": 8}
RECIPE = load_recipe("tsm_demo", ["dataset.num_classes=3", "network.base_channels=8"])


def test_arguments_reach_the_network() -> None:
    network = build_network("tsm", {**ARGUMENTS, "shift": False, "dropout": 0})
    assert network.state_dict()["cls_head.fc_cls.weight"].shape == (3, 64)
    assert not any(".net." in key for key in network.state_dict())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({**ARGUMENTS, "deptth": 50}, "deptth is unknown"),
        ({"depth": 10}, "num_classes is missing"),
        ({**ARGUMENTS, "depth": "10"}, "depth must be an integer"),
        ({**ARGUMENTS, "num_segments": 8.0}, "num_segments must be an integer"),
        ({**ARGUMENTS, "num_segments": True}, "num_segments must be an integer"),
        ({**ARGUMENTS, "shift": 1}, "shift must be true or false"),
        ({**ARGUMENTS, "dropout": None}, "dropout must be a number"),
        ({**ARGUMENTS, "depth": 12}, "10, 18, 34, 50, 101"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        build_network("tsm", arguments)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(UsageError, match=r"deptth is unknown; depth is missing; num_classes is missing"):
        build_network("tsm", {"deptth": 50})


def test_an_unknown_network_is_rejected() -> None:
    with pytest.raises(UsageError, match="'tms'; choose one of tsm"):
        build_network("tms", ARGUMENTS)


def test_a_checkpoint_file_is_loaded_for_evaluation(tmp_path: Path) -> None:
    written, path = build_network("tsm", ARGUMENTS), tmp_path / "tsm.pth"
    save_mmaction2(path, written, {})
    network, provenance = load_network(RECIPE, str(path))
    clips = torch.randn(1, 8, 3, 32, 32)
    assert not network.training
    assert torch.equal(network(clips), written.eval()(clips))
    assert provenance.sha256 == sha256_file(path)
    assert provenance.description == "checkpoint tsm.pth"
    assert not provenance.seeded


def test_a_checkpoint_of_a_different_class_count_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "tsm.pth"
    save_mmaction2(path, build_network("tsm", {**ARGUMENTS, "num_classes": 4}), {})
    with pytest.raises(BadDataError, match=r"tsm\.pth has 4 classes, the recipe has 3"):
        load_network(RECIPE, str(path))


def test_seeded_weights_are_reproducible_and_differ_by_seed() -> None:
    network, provenance = load_network(RECIPE, "seeded:5")
    state = network.state_dict()
    expected = seeded_state_dict({key: value.shape for key, value in state.items()}, seed=5)
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert provenance.seeded
    assert "seeded:5" in provenance.description
    again, other = (load_network(RECIPE, f"seeded:{number}")[1].sha256 for number in (5, 6))
    assert provenance.sha256 == again != other


@pytest.mark.parametrize("checkpoint", ["seeded:", "seeded:x", "seeded:-1", "seeded:1.5"])
def test_a_malformed_seed_is_rejected(checkpoint: str) -> None:
    with pytest.raises(UsageError, match="seeded:N"):
        load_network(RECIPE, checkpoint)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.pth"):
        load_network(RECIPE, str(tmp_path / "absent.pth"))
