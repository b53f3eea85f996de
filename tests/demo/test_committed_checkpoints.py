"""The committed checkpoints: small, of this generator version, with the accuracies of the demo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from demo.examples import Examples, generate_examples
from demo.motion import GENERATOR_VERSION
from networks.checkpoints.torch_weights import read_torch
from networks.loading import load_network
from train.learning.network_input import Normalisation
from vidom.formats.recipe import load_recipe

CHECKPOINTS = Path(__file__).parents[2] / "demo" / "checkpoints"
RECIPE = load_recipe("tsm_demo")


@pytest.fixture(scope="module")
def unseen() -> Examples:
    """Clips of a seed that neither the training nor the demo uses."""
    return generate_examples(RECIPE, "validation", clips_per_class=30, seed=7, workers=1)


def _predicted(unseen: Examples, *, shift: bool, name: str) -> NDArray[np.int64]:
    recipe = load_recipe("tsm_demo", [f"network.shift={shift}"])
    network, _ = load_network(recipe, str(CHECKPOINTS / name))
    normalise = Normalisation(RECIPE.views)
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(unseen.clips), 64)
        return torch.cat([network(normalise(part)).argmax(1) for part in parts]).numpy()


@pytest.mark.parametrize("name", ["tsm_demo.pth", "tsm_demo_control.pth"])
def test_checkpoints_are_small_and_of_this_generator(name: str) -> None:
    assert (CHECKPOINTS / name).stat().st_size < 1_500_000
    meta = read_torch(CHECKPOINTS / name).meta
    assert (meta["recipe"], meta["generator"]) == ("tsm_demo", GENERATOR_VERSION)


@pytest.mark.slow
def test_the_network_with_the_shift_recognizes_the_motions(unseen: Examples) -> None:
    predicted = _predicted(unseen, shift=True, name="tsm_demo.pth")
    assert (predicted == unseen.labels).mean() >= 0.95


@pytest.mark.slow
def test_the_network_without_shift_is_at_chance(unseen: Examples) -> None:
    predicted = _predicted(unseen, shift=False, name="tsm_demo_control.pth")
    # A single frame has no information: chance is 1/12, with a standard deviation of 0.015 for 360 clips.
    assert (predicted == unseen.labels).mean() <= 0.2


@pytest.mark.slow
def test_reversed_frames_are_recognized_as_the_partner(unseen: Examples) -> None:
    backwards = replace(unseen, clips=np.ascontiguousarray(unseen.clips[:, ::-1]), labels=unseen.labels ^ 1)
    predicted = _predicted(backwards, shift=True, name="tsm_demo.pth")
    assert (predicted == backwards.labels).mean() >= 0.95
    same = _predicted(unseen, shift=False, name="tsm_demo_control.pth")
    assert (_predicted(backwards, shift=False, name="tsm_demo_control.pth") == same).mean() > 0.98
