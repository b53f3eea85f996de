"""From a real video to PP-TSM's scores, against those of the original PaddleVideo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from paddle_fill import fill

from networks.pptsm import PPTSM
from preprocess.crops import Box
from preprocess.frames import FrameSource, RawFrames
from preprocess.paddle_views import full_res_crops, uniform_middles
from preprocess.pillow_pixels import four_by_three, resize_with_pillow, rounded_center_crop, unit_pixel_table
from preprocess.pixels import crop
from preprocess.sampling import dense_test
from preprocess.video import VideoFile

TOLERANCE = 5e-6
FRAMES = 131
WITH_ALL = pytest.mark.skipif(
    "VIDOM_ALL_TRUTHS" not in os.environ, reason="slow; runs with VIDOM_ALL_TRUTHS=1"
)


def source_of(kind: str, folder: Path) -> FrameSource:
    if kind == "videos":
        return VideoFile(folder / "example.avi")
    return RawFrames(folder / "rawframes" / "example", FRAMES)


def tensor(
    source: FrameSource, positions: NDArray[np.int64], crops: Callable[[int, int], Sequence[Box]]
) -> NDArray[np.float32]:
    """One sample [frames, 3, 224, 224], crop by crop."""
    table = unit_pixel_table(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    wanted = np.unique(positions).tolist()
    resized = {}
    for position, frame in zip(wanted, source.read(wanted), strict=True):
        size = four_by_three(frame.shape[1], frame.shape[0], short_side=256, wide_square=False)
        resized[position] = resize_with_pillow(frame, *size)
    pictures = [crop(resized[position], box) for box in crops(*size) for position in positions.tolist()]
    planes = np.stack(pictures).transpose(0, 3, 1, 2)
    return np.stack([values[planes[:, channel]] for channel, values in enumerate(table)], axis=1)


def centre(width: int, height: int) -> Sequence[Box]:
    return (rounded_center_crop(width, height, size=224),)


def three(width: int, height: int) -> Sequence[Box]:
    return full_res_crops(width, height, size=224)


@pytest.mark.parametrize(
    ("name", "segments"),
    [
        ("videos_uniform_400", 8),
        ("frames_uniform_66", 8),
        ("videos_uniform_16f_400", 16),
        pytest.param("frames_uniform_400", 8, marks=WITH_ALL),
        pytest.param("videos_uniform_66", 8, marks=WITH_ALL),
        pytest.param("frames_dense_400", 8, marks=WITH_ALL),
        pytest.param("frames_dense_66", 8, marks=WITH_ALL),
    ],
)
def test_scores_of_a_real_video_are_the_originals(
    fixtures: Path, shared: Path, name: str, segments: int
) -> None:
    kind, sampling, *_, classes = name.split("_")
    dense = sampling == "dense"
    positions = (
        dense_test(FRAMES, num_clips=segments) if dense else uniform_middles(FRAMES, num_segments=segments)
    )
    sample = tensor(source_of(kind, shared / "data" / "paddle"), positions, three if dense else centre)
    network = PPTSM(depth=50, num_classes=int(classes), num_segments=segments, backbone_segments=segments)
    fill(network, damped=True)
    with torch.inference_mode():
        clips = [network(clip[None]) for clip in torch.from_numpy(sample).split(segments)]
    assert len(clips) == (30 if dense else 1)
    # The original's head averages the features of all frames; its classifier is linear.
    logits = torch.cat(clips).mean(dim=0)
    with np.load(fixtures / "paddle" / "e2e_example.npz") as truth:
        expected, softmax = truth[f"{name}/logits"], truth[f"{name}/softmax"]
        top5 = json.loads(str(truth["info_json"]))[name]["top5"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    np.testing.assert_allclose(logits.softmax(dim=-1), softmax, rtol=0, atol=TOLERANCE)
    assert logits.topk(5).indices.tolist() == top5
