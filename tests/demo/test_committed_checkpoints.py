"""The committed checkpoints: small, of this generator version, with the accuracies of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.examples import Examples, generate_examples
from demo.motion import GENERATOR_VERSION
from demo.train_networks import predict
from networks.checkpoints.torch_weights import read_torch
from networks.loading import load_network
from vidom.formats.recipe import load_recipe

CHECKPOINTS = Path(__file__).parents[2] / "demo" / "checkpoints"
RECIPE = load_recipe("tsm_demo")


@pytest.fixture(scope="module")
def unseen() -> Examples:
    """Clips of a seed that neither the training nor the demo uses."""
    return generate_examples("validation", clips_per_class=30, plan=RECIPE.views, seed=7, workers=1)


def _predicted(unseen: Examples, *, shift: bool, name: str) -> NDArray[np.int64]:
    recipe = load_recipe("tsm_demo", [f"network.shift={shift}"])
    network, _ = load_network(recipe, str(CHECKPOINTS / name))
    return predict(network, unseen, plan=RECIPE.views).argmax(1).numpy()


@pytest.mark.parametrize(("name", "shift"), [("tsm_demo.pth", True), ("tsn_demo.pth", False)])
def test_checkpoints_are_small_and_of_this_generator(name: str, shift: bool) -> None:
    assert (CHECKPOINTS / name).stat().st_size < 1_500_000
    meta = read_torch(CHECKPOINTS / name).meta
    assert (meta["recipe"], meta["shift"], meta["generator"]) == ("tsm_demo", shift, GENERATOR_VERSION)


@pytest.mark.slow
def test_the_network_with_the_shift_recognizes_the_motions(unseen: Examples) -> None:
    predicted = _predicted(unseen, shift=True, name="tsm_demo.pth")
    assert (predicted == unseen.labels).mean() >= 0.95


@pytest.mark.slow
def test_the_network_without_shift_is_at_chance(unseen: Examples) -> None:
    predicted = _predicted(unseen, shift=False, name="tsn_demo.pth")
    # A single frame has no information: chance is 1/12, with a standard deviation of 0.015 for 360 clips.
    assert (predicted == unseen.labels).mean() <= 0.2


@pytest.mark.slow
def test_reversed_frames_are_recognized_as_the_partner(unseen: Examples) -> None:
    backwards = Examples(np.ascontiguousarray(unseen.clips[:, ::-1]), unseen.labels ^ 1)
    predicted = _predicted(backwards, shift=True, name="tsm_demo.pth")
    assert (predicted == backwards.labels).mean() >= 0.95
    same = _predicted(unseen, shift=False, name="tsn_demo.pth")
    assert (_predicted(backwards, shift=False, name="tsn_demo.pth") == same).mean() > 0.98
