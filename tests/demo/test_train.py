"""Training: labels of reflected clips, decreasing loss, reproducible results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from demo.examples import Examples, SyntheticClip, generate_examples
from demo.generate import scene_of
from demo.motion import MOTIONS, label_names
from demo.symmetries import SYMMETRIES, scatter
from demo.train_networks import TrainOptions, fit, main, predict, train
from networks.checkpoints.torch_weights import read_torch
from networks.loading import build_network, load_network
from preprocess.tensors.samples import make_sample
from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe

RECIPE = load_recipe("tsm_demo")
REVERSED, LEFT_RIGHT, UP_DOWN, DIAGONAL = SYMMETRIES


def test_label_file_of_the_recipe_names_the_motions() -> None:
    assert list(RECIPE.labels()) == label_names()


def test_reflections_change_the_labels_of_reversed_directions() -> None:
    def changes(images: tuple[int, ...]) -> dict[str, str]:
        names = label_names()
        return {names[old]: names[new] for old, new in enumerate(images) if old != new}

    left, right = "Moving something from right to left", "Moving something from left to right"
    up, down = "Moving something up", "Moving something down"
    clockwise, counter = "Turning something clockwise", "Turning something counter-clockwise"
    turned = {clockwise: counter, counter: clockwise}
    assert changes(LEFT_RIGHT.labels) == {left: right, right: left, **turned}
    assert changes(UP_DOWN.labels) == {up: down, down: up, **turned}
    assert changes(DIAGONAL.labels) == {left: up, up: left, right: down, down: right, **turned}
    assert list(REVERSED.labels) == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]


def test_reflections_flip_their_axes() -> None:
    clips = torch.arange(2 * 2 * 3 * 4 * 4).reshape(2, 2, 3, 4, 4)
    for symmetry, (segment, row, column) in (
        (REVERSED, (0, 1, 3)),
        (LEFT_RIGHT, (1, 1, 0)),
        (UP_DOWN, (1, 2, 3)),
        (DIAGONAL, (1, 3, 1)),
    ):
        # The new position of the pixel of segment 1, row 1, column 3.
        assert torch.equal(symmetry.pixels(clips)[:, segment, :, row, column], clips[:, 1, :, 1, 3])


def test_scatter_does_not_change_the_examples_and_is_reproducible() -> None:
    clips = torch.arange(24 * 8 * 3 * 4 * 4, dtype=torch.int32).reshape(24, 8, 3, 4, 4)
    labels = torch.arange(24) % 12
    before = clips.clone(), labels.clone()
    first = scatter(clips, labels, torch.Generator().manual_seed(3))
    second = scatter(clips, labels, torch.Generator().manual_seed(3))
    assert torch.equal(clips, before[0])
    assert torch.equal(labels, before[1])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[1], labels)
    # A clip keeps its own pixels, whatever their order.
    assert torch.equal(first[0].flatten(1).sort(1)[0], clips.flatten(1).sort(1)[0])


@pytest.mark.slow
def test_synthetic_examples_are_samples_of_the_pipeline() -> None:
    examples = generate_examples("validation", clips_per_class=1, plan=RECIPE.views, seed=3, workers=1)
    assert examples.clips.shape == (12, 8, 3, 64, 64)
    assert examples.labels.tolist() == list(range(12))
    scene = scene_of("validation", 5, seed=3)
    clip = SyntheticClip(scene, np.arange(scene.length))
    np.testing.assert_array_equal(examples.clips[5], make_sample(clip, RECIPE.views, dtype="uint8").tensor)
    training = generate_examples("train", clips_per_class=1, plan=RECIPE.views, seed=3, workers=1)
    assert not np.array_equal(training.clips, examples.clips)


@pytest.fixture(scope="module")
def shades() -> Examples:
    """Clips whose brightness identifies the pair of the class, unlike synthetic frames."""
    labels = np.tile(np.arange(12), 8)
    clips = np.empty((len(labels), 8, 3, 32, 32), np.uint8)
    clips[:] = (np.maximum(labels // 2, 1) * 45)[:, None, None, None, None]
    return Examples(clips, labels)


@pytest.mark.slow
def test_fitting_decreases_the_loss_and_is_reproducible(shades: Examples) -> None:
    options = TrainOptions(steps=20, batch_size=12)
    losses, scores = [], []
    for _ in range(2):
        torch.manual_seed(0)
        network = build_network("tsm", {**RECIPE.network_arguments, "dropout": 0.0})
        losses.append(list(fit(network, shades, plan=RECIPE.views, options=options)))
        scores.append(predict(network, shades, plan=RECIPE.views))
    assert len(losses[0]) == 20
    assert losses[0][0] == pytest.approx(np.log(12), abs=0.2)
    assert losses[0][-1] < losses[0][0] - 0.5
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert scores[0].shape == (len(shades.labels), 12)


@pytest.mark.slow
def test_train_writes_both_checkpoints_in_the_layout_of_the_reader(tmp_path: Path) -> None:
    options = TrainOptions(
        output_dir=tmp_path, workers=1, clips_per_class=1, unseen_per_class=1, steps=2, batch_size=12
    )
    tsm, control = train(options)
    assert (tsm.path.name, control.path.name) == ("tsm_demo.pth", "tsn_demo.pth")
    for trained, shift in ((tsm, True), (control, False)):
        assert 0 <= trained.top1 <= 1
        assert read_torch(trained.path).meta["shift"] is shift
        recipe = load_recipe("tsm_demo", [f"network.shift={shift}"])
        load_network(recipe, str(trained.path))


def test_wrong_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        main(["--output_dir", str(tmp_path), "--steps", "0"])
    assert len(MOTIONS) == RECIPE.dataset.num_classes
