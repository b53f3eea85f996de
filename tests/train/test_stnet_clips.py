"""Training clips of packs against those that StNet's own train pipeline makes of them, with Python's generator."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from train_sections import section
from written_clips import written

from preprocess.datasets.sample_list import list_samples
from preprocess.sources.frame_pack import PackedFrames
from preprocess.tensors.training_clips import Randomness, TrainingClip, make_training_clip
from train.learning.network_input import Normalisation
from train.validation import CentreClips
from vidom.formats.recipe import load_recipe
from vidom.formats.views import ViewPlan

FIXTURES = Path(__file__).parents[1] / "fixtures"
TRUTHS = json.loads((FIXTURES / "training" / "mindspore" / "stnet_clips.json").read_text())["clips"]
SECTION = section(augmentation={"crop": {"type": "random"}, "flip": 0.5})


def clip_of(name: str, layout: str) -> tuple[TrainingClip, ViewPlan, Randomness]:
    pack, sizes, seed = name.split("|")
    runs, _, pixels = sizes.partition("@")
    (segments, frames), (short, size) = (
        map(int, part.split(mark)) for part, mark in ((runs, "x"), (pixels, "/"))
    )
    plan = ViewPlan(
        pipeline="mindspore",
        num_segments=segments,
        clip_len=frames,
        short_side=short,
        crop="center",
        crop_size=size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layout=layout,
    )
    randomness = Randomness(np.random.RandomState(0), Random(int(seed)))
    source = PackedFrames(FIXTURES / "mindspore" / pack)
    return make_training_clip(source, plan, SECTION, randomness), plan, randomness


@pytest.mark.parametrize("name", TRUTHS)
def test_a_clip_is_the_original_s_for_the_same_generator(name: str):
    truth = TRUTHS[name]
    clip, plan, randomness = clip_of(name, "planes")
    assert list(clip.frames) == truth["frames"]
    assert [clip.box.left, clip.box.top] == truth["corner"]
    assert clip.mirrored == truth["mirrored"]
    tensor = Normalisation(plan)(torch.from_numpy(clip.pixels)[None])[0].numpy()
    assert list(tensor.shape) == truth["shape"]
    assert zlib.crc32(np.ascontiguousarray(tensor).tobytes()) == truth["crc32"]
    # Not one random number more or less was taken.
    assert randomness.python.random() == truth["random_after"]


def test_the_earlier_layout_has_the_same_frames_stacked_with_their_colours():
    name = next(iter(TRUTHS))
    planes, stacked = (
        Normalisation(plan)(torch.from_numpy(clip.pixels)[None])[0]
        for clip, plan, _ in (clip_of(name, layout) for layout in ("planes", "stacked"))
    )
    frames = planes.transpose(0, 1)
    torch.testing.assert_close(stacked.reshape(frames.shape), frames, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["small096x072_000011_000021", "tiny003frame_000004_000014"])
def test_the_clips_of_the_validation_are_those_of_the_original_s_evaluation(name: str, tmp_path: Path):
    (tmp_path / "val").symlink_to(FIXTURES / "mindspore")
    (tmp_path / "val.json").write_text(json.dumps([{"video_name": f"{name}.mp4"}]))
    recipe = load_recipe("stnet_k400")
    samples = list_samples(tmp_path / "val.json", data_root=tmp_path, recipe=recipe)
    _, plan = recipe.training
    pixels, label = written(CentreClips(recipe, samples, tmp_path), (0, 0), plan.images_shape)
    tensor = Normalisation(plan)(torch.from_numpy(pixels)[None])[0].numpy()
    with np.load(FIXTURES / "mindspore" / "preprocess_eval.npz") as truth:
        assert zlib.crc32(np.ascontiguousarray(tensor).tobytes()) == truth[f"v/{name}/tensor_crc32"]
        assert label == truth[f"v/{name}/label"]
