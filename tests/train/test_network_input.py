"""What the device makes of images, against the tensors that preprocessing makes of the same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.sources.frames import RawFrames
from preprocess.tensors.samples import make_sample
from preprocess.tensors.training_clips import make_centre_clip
from train.learning.network_input import Normalisation, arranged
from vidom.formats.views import ViewPlan

FRAMES = Path(__file__).parents[1] / "fixtures" / "synth" / "short_176x144"
UNIT = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LAYOUTS: dict[str, dict[str, Any]] = {
    "NCHW": {"num_segments": 4},
    "NCHW of a video shorter than the clip": {"num_segments": 64},
    "NCHW, BGR": {"num_segments": 4, "colour": "bgr"},
    "NCTHW": {"layout": "NCTHW", "num_segments": 2, "clip_len": 5},
    "stacked": {"layout": "stacked", "pipeline": "mindspore", "num_segments": 3, "clip_len": 5, **UNIT},
    "planes": {"layout": "planes", "pipeline": "mindspore", "num_segments": 3, "clip_len": 5, **UNIT},
    "Pillow": {"pipeline": "paddlevideo", "num_segments": 4, **UNIT},
}


def plan_of(name: str) -> ViewPlan:
    usual = {
        "short_side": 40,
        "crop": "center",
        "crop_size": 32,
        "mean": (120, 110, 100),
        "std": (58, 57, 56),
    }
    return ViewPlan.model_validate(usual | LAYOUTS[name])


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_centre_clip_becomes_the_sample_of_preprocessing(name: str):
    plan = plan_of(name)
    source = RawFrames(FRAMES, len(list(FRAMES.iterdir())))
    clip = make_centre_clip(source, plan)
    images = torch.from_numpy(clip.pixels)[None]
    assert images.shape[1:] == plan.images_shape
    sample = make_sample(source, plan, dtype="uint8")
    assert clip.frames == sample.frames
    np.testing.assert_array_equal(arranged(images, plan)[0].numpy(), sample.tensor)
    values = Normalisation(plan)(images)
    np.testing.assert_array_equal(values[0].numpy(), make_sample(source, plan).tensor)
    assert values.is_contiguous()


@pytest.mark.parametrize("name", ["NCHW", "NCTHW"])
def test_a_gpu_keeps_frames_channels_last_for_2d_convolutions(name: str, monkeypatch: pytest.MonkeyPatch):
    plan = plan_of(name)
    images = torch.arange(2 * np.prod(plan.images_shape)).reshape(2, *plan.images_shape).to(torch.uint8)
    expected = Normalisation(plan)(images)
    # A machine without a GPU has no such tensors.
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    values = Normalisation(plan)(images)
    torch.testing.assert_close(values, expected, rtol=0, atol=0)
    if name == "NCHW":
        assert values.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    else:
        assert values.is_contiguous()
