"""Training clips against those that PaddleVideo's own train pipeline makes of frames, with its two generators."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from preprocess.sources.frames import RawFrames
from preprocess.sources.image_files import decode_with_pillow
from preprocess.tensors.training_clips import Randomness, make_training_clip
from train.learning.network_input import Normalisation
from vidom.formats.recipe import load_recipe

FIXTURES = Path(__file__).parents[1] / "fixtures"
TRUTHS = json.loads((FIXTURES / "training" / "paddlevideo" / "clips.json").read_text())["clips"]
RECIPES = {"uniform": "pptsm_k400_uniform", "dense": "pptsm_k400_dense"}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_clip_is_the_original_s_for_the_same_generators(name: str):
    truth = TRUTHS[name]
    sampling, _, rest = name.partition("|")
    folder, _, numbers = rest.partition(":")
    total, seed = map(int, numbers.split("@"))
    section, plan = load_recipe(RECIPES[sampling]).training
    randomness = Randomness(np.random.RandomState(seed), Random(seed))
    source = RawFrames(FIXTURES / folder, total, decode=decode_with_pillow)
    clip = make_training_clip(source, plan, section, randomness)
    if "missing_file" in truth:
        # The original requests files past the end of a short video, and trains on another video; ours starts again.
        assert list(clip.frames) == [(number - 1) % total + 1 for number in truth["frame_inds"]]
        return
    assert list(clip.frames) == truth["frame_inds"]
    assert zlib.crc32(clip.pixels.tobytes()) == truth["RandomFlip"]
    tensor = Normalisation(plan)(torch.from_numpy(clip.pixels)[None])[0].numpy()
    assert list(tensor.shape) == truth["shape"]
    assert zlib.crc32(np.ascontiguousarray(tensor).tobytes()) == truth["crc32"]
    # Not one random number more or less was taken.
    assert (randomness.numpy.rand(), randomness.python.random()) == (truth["np_after"], truth["py_after"])
