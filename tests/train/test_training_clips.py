"""Training clips against the decisions and tensors of mmaction2's own train pipelines."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
from train_sections import section

from preprocess.sources.frames import RawFrames
from preprocess.tensors.crops import random_resized_crop
from preprocess.tensors.pixels import pixel_table
from preprocess.tensors.training_clips import Randomness, TrainingClip, make_training_clip
from vidom.formats.crop_boxes import Box
from vidom.formats.recipe import load_recipe
from vidom.formats.recipe_parts.train_section import Augmentation, TrainSection
from vidom.formats.views import ViewPlan

FIXTURES = Path(__file__).parents[1] / "fixtures"
TRUTHS = json.loads((FIXTURES / "training" / "mmaction2" / "pipeline_train.json").read_text())
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PLAN = ViewPlan(num_segments=8, short_side=256, crop="center", crop_size=224, mean=MEAN, std=STD)
CROP = {"type": "multi_scale"}
SECTIONS = {
    "tsm_ucf101": section(augmentation={"crop": CROP}),
    "tsm_sthv2_flipmap": section(augmentation={"crop": CROP, "flip": 0.5, "flip_labels": {86: 87, 87: 86}}),
}
COMMITTED = [name for name in TRUTHS if (FIXTURES / name.partition("|")[2].partition(":")[0]).is_dir()]


def clip_of(name: str) -> tuple[TrainingClip, TrainSection, Randomness]:
    config, _, rest = name.partition("|")
    folder, _, numbers = rest.partition(":")
    total, seed = map(int, numbers.split("@"))
    randomness = Randomness(np.random.RandomState(seed), Random(seed))
    source = RawFrames(FIXTURES / folder, total)
    return make_training_clip(source, PLAN, SECTIONS[config], randomness), SECTIONS[config], randomness


@pytest.mark.parametrize("name", COMMITTED)
def test_a_clip_is_the_original_s_for_the_same_generators(name: str):
    truth = TRUTHS[name]
    clip, settings, randomness = clip_of(name)
    assert list(clip.frames) == truth["frame_inds"]
    assert list(clip.box) == truth["crop_bbox"]
    assert clip.mirrored == truth.get("flip", False)
    assert clip.label(87, settings.augmentation) == truth["label_out"]
    table = pixel_table(mean=MEAN, std=STD)
    tensor = np.stack([table[channel][clip.pixels[..., channel]] for channel in range(3)], axis=1)
    assert list(tensor.shape) == truth["shape"]
    assert zlib.crc32(np.ascontiguousarray(tensor).tobytes()) == truth["crc32"]
    # Not one random number more or less was taken.
    assert (randomness.numpy.rand(), randomness.python.random()) == (truth["np_after"], truth["py_after"])


def test_something_something_s_left_and_right_change_places_in_mirrored_clips_only():
    """The map is that of mmaction2's configurations that flip; here it is compared with the names of the classes."""
    pairs = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    names = (Path(__file__).parents[2] / "om_models" / "labels" / "sthv2.txt").read_text().splitlines()
    swapped = Augmentation.model_validate({"crop": CROP, "flip": 0.5, "flip_labels": pairs})
    straight, mirrored = (
        TrainingClip(np.zeros(0, np.uint8), (), Box(0, 0, 1, 1), mirrored=mirrored)
        for mirrored in (False, True)
    )
    for label, name in enumerate(names):
        assert straight.label(label, swapped) == label
        sides = {"left": "right", "right": "left"}
        other = " ".join(sides.get(word, word) for word in name.split())
        # "Plugging something into something but pulling it right out" has no counterpart.
        assert names[mirrored.label(label, swapped)] == (other if other in names else name)


def test_the_recipe_of_something_something_does_not_flip_as_the_original_does_not():
    """The train pipeline of mmaction2's tsm_r50_1x1x8_50e_sthv2_rgb.py has no Flip."""
    section, _ = load_recipe("tsm_sthv2").training
    assert section.augmentation.flip == 0
    assert section.augmentation.flip_labels == {}


def test_the_generators_depend_on_every_number_and_on_nothing_else():
    def draws(*numbers: int) -> tuple[float, float]:
        randomness = Randomness.of(*numbers)
        return randomness.numpy.rand(), randomness.python.random()

    assert draws(1, 2, 3) == draws(1, 2, 3)
    assert len({draws(*numbers) for numbers in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (0, 0, 0))}) == 5


def test_a_flip_that_is_off_draws_nothing():
    assert Augmentation.model_validate({"crop": CROP}).flip == 0
    _, _, randomness = clip_of(next(name for name in COMMITTED if name.startswith("tsm_ucf101|synth/big")))
    assert randomness.numpy.rand() == np.random.RandomState(int(COMMITTED[0][-1])).rand()


def test_random_resized_crops_have_the_areas_and_aspects_that_they_are_drawn_from():
    randomness = Randomness.of(5)
    boxes = [
        random_resized_crop(
            340, 256, randomness.numpy, randomness.python, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)
        )
        for _ in range(2000)
    ]
    areas = np.array([(b.right - b.left) * (b.bottom - b.top) / (340 * 256) for b in boxes])
    ratios = np.array([(b.right - b.left) / (b.bottom - b.top) for b in boxes])
    assert all(b.left >= 0 and b.right <= 340 and b.top >= 0 and b.bottom <= 256 for b in boxes)
    assert 0.075 < areas.min() < 0.1 and areas.max() > 0.95
    assert 0.73 < ratios.min() < 0.77 and 1.3 < ratios.max() < 1.37


def test_where_no_random_shape_fits_the_middle_square_is_used():
    randomness = Randomness.of(5)
    box = random_resized_crop(
        400, 20, randomness.numpy, randomness.python, area=(0.9, 1.0), aspect=(1, 4 / 3)
    )
    assert box == (190, 0, 210, 20)
