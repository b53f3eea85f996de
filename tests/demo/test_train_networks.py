"""Training on generated clips: the source of clips, and a whole small run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.examples import Examples, GeneratedClips, SyntheticClip, generate_examples
from demo.generate import scene_of
from demo.motion_sets import ONE_WAY, THERE_AND_BACK
from demo.train_networks import main
from networks.checkpoints.torch_weights import read_torch
from networks.loading import load_network
from preprocess.tensors.samples import make_sample
from train.clips.clip_loader import clip_loader
from train.clips.epochs import ClipKey, Epochs
from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe

RECIPE = load_recipe("tsm_demo")
RECIPES = Path(__file__).parents[2] / "demo" / "recipes"


@pytest.fixture(scope="module")
def examples() -> Examples:
    random = np.random.default_rng(5)
    return Examples(random.integers(0, 256, (24, 8, 6, 6, 3), np.uint8), np.arange(24) % 12, ONE_WAY)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("tsm_demo", ONE_WAY.names),
        (str(RECIPES / "tsm_phases.yaml"), THERE_AND_BACK.names),
        (str(RECIPES / "i3d_phases.yaml"), THERE_AND_BACK.names),
    ],
)
def test_label_files_of_the_recipes_name_the_motions(path: str, names: list[str]) -> None:
    assert list(load_recipe(path).labels()) == names


def written(source: GeneratedClips, key: ClipKey) -> tuple[NDArray[np.uint8], int]:
    pixels = np.empty(source.examples.clips.shape[1:], np.uint8)
    return pixels, source.write(key, pixels)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_clip_depends_on_seed_epoch_and_sample_only(examples: Examples, shuffled: bool) -> None:
    source = GeneratedClips(examples, 3, scattered=True, shuffled=shuffled)
    keys = [(epoch, index) for epoch in range(2) for index in range(len(source))]
    first = {key: written(source, key) for key in keys}
    for key in reversed(keys):
        again = GeneratedClips(examples, 3, scattered=True, shuffled=shuffled)
        pixels, label = written(again, key)
        np.testing.assert_array_equal(pixels, first[key][0])
        assert label == first[key][1]
    # Another epoch or seed is another clip of the same pixels, its label sometimes another one.
    assert any(not np.array_equal(first[0, i][0], first[1, i][0]) for i in range(24))
    assert [first[0, i][1] for i in range(24)] != [first[1, i][1] for i in range(24)]
    other = GeneratedClips(examples, 4, scattered=True, shuffled=shuffled)
    assert [written(other, (0, i))[1] for i in range(24)] != [first[0, i][1] for i in range(24)]
    for (_, index), (pixels, _) in first.items():
        np.testing.assert_array_equal(np.sort(pixels.ravel()), np.sort(examples.clips[index].ravel()))


@pytest.mark.slow
def test_batches_do_not_depend_on_the_workers(examples: Examples) -> None:
    source = GeneratedClips(examples, 3, scattered=True, shuffled=False)
    keys = list(Epochs(len(source), 7, 1, seed=3).batches(device=0, first=0, last=5))
    with_workers, without = (
        list(clip_loader(source, keys, shape=examples.clips.shape[1:], workers=workers)) for workers in (1, 0)
    )
    for one, other in zip(with_workers, without, strict=True):
        assert one.indices == other.indices
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_array_equal(one.pixels.numpy(), other.pixels.numpy())


def test_clips_of_the_validation_stay_as_they_are(examples: Examples) -> None:
    source = GeneratedClips(examples, 3, scattered=False, shuffled=False)
    for index in (0, 23):
        pixels, label = written(source, (0, index))
        np.testing.assert_array_equal(pixels, examples.clips[index])
        assert label == index % 12


def test_shuffled_clips_have_the_same_frames_in_another_order() -> None:
    clips = (np.arange(12 * 8 * 2 * 2 * 3) % 251).astype(np.uint8).reshape(12, 8, 2, 2, 3)
    source = GeneratedClips(Examples(clips, np.arange(12), ONE_WAY), 3, scattered=False, shuffled=True)
    moved, kept = written(source, (0, 4))[0], clips[4]
    assert not np.array_equal(moved, kept)
    assert sorted(frame.tobytes() for frame in moved) == sorted(frame.tobytes() for frame in kept)


@pytest.mark.slow
def test_synthetic_examples_are_samples_of_the_pipeline() -> None:
    examples = generate_examples(RECIPE, "validation", clips_per_class=1, seed=3, workers=1)
    assert examples.clips.shape == (12, 8, 64, 64, 3)
    assert examples.labels.tolist() == list(range(12))
    clip = SyntheticClip(scene_of("validation", 5, seed=3))
    sample = make_sample(clip, RECIPE.views, dtype="uint8").tensor
    np.testing.assert_array_equal(examples.clips[5], np.moveaxis(sample, 1, -1))
    training = generate_examples(RECIPE, "train", clips_per_class=1, seed=3, workers=1)
    assert not np.array_equal(training.clips, examples.clips)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["tsm_demo", str(RECIPES / "i3d_phases.yaml")])
def test_a_small_run_leaves_the_weights_of_the_network_and_its_control(path: str, tmp_path: Path) -> None:
    sets = [
        *("network.base_channels=8", "train.epochs=2"),
        *("views.short_side=48", "views.crop_size=40", "train.crop_size=40"),
    ]
    words = ["--recipe", path, *(word for entry in sets for word in ("--set", entry))]
    words += ["--output_dir", str(tmp_path), "--clips_per_class", "2", "--unseen_per_class", "1"]
    main([*words, "--workers", "1"])
    recipe = load_recipe(path, sets)
    is_tsm = recipe.network.arch == "tsm"
    for name, control in ((recipe.name, False), (f"{recipe.name}_control", True)):
        weights = tmp_path / f"{name}.pth"
        load_network(
            load_recipe(path, [*sets, *["network.shift=false"] * (control and is_tsm)]), str(weights)
        )
        assert read_torch(weights).meta["control"] is control
        lines = (tmp_path / ("control" if control else "network") / "log.jsonl").read_text().splitlines()
        steps = [line for line in map(json.loads, lines) if "loss" in line]
        assert sum(line["clips"] for line in steps) == 48
        assert steps[0]["loss"] == pytest.approx(np.log(12), abs=0.3)
        assert [line["n"] for line in map(json.loads, lines) if "top1" in line] == [12]


def test_wrong_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        main(["--recipe", "tsm_demo", "--output_dir", str(tmp_path), "--clips_per_class", "0"])
    with pytest.raises(UsageError, match="dataset.name"):
        main(["--recipe", "tsm_ucf101", "--output_dir", str(tmp_path)])
