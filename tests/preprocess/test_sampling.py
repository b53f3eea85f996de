"""Frame indices against tables produced by mmaction2, PaddleVideo and MindSpore's StNet."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from preprocess.tensors.sampling import (
    dense_test,
    dense_train,
    segment_runs,
    segment_runs_train,
    uniform_middles,
    uniform_test,
    uniform_train,
)

TRUTHS = Path(__file__).parents[1] / "fixtures" / "mmaction2"
MODES: dict[str, dict[str, Any]] = json.loads((TRUTHS / "sampling_modes.json").read_text())["modes"]


def sample(mode: dict[str, Any], total: int, start_index: int) -> np.ndarray:
    options = {**mode, "start_index": start_index}
    dense = options.pop("cls") == "DenseSampleFrames"
    if "out_of_bound_opt" in options:
        options["out_of_bound"] = options.pop("out_of_bound_opt")
    if options.pop("test_mode", False):
        return (dense_test if dense else uniform_test)(total, **options)
    return (dense_train if dense else uniform_train)(total, np.random.RandomState(total), **options)


@pytest.mark.parametrize("start_index", [0, 1])
@pytest.mark.parametrize("name", MODES)
def test_sampling_matches_mmaction2_for_every_length(name: str, start_index: int) -> None:
    with np.load(TRUTHS / "sampling.npz") as truths:
        rows, totals = truths[f"{name}/start{start_index}"], truths["totals"]
    assert len(rows) == len(totals) > 200
    for total, row in zip(totals.tolist(), rows, strict=True):
        frames = sample(MODES[name], total, start_index)
        assert frames.dtype == np.int64
        # The table pads rows with -1 where a short video gives fewer clips.
        np.testing.assert_array_equal(frames, row[row >= 0], err_msg=f"{total} frames")


def test_twice_sample_puts_the_middles_first() -> None:
    frames = uniform_test(16, num_clips=8, twice_sample=True)
    assert frames.tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14]


def test_a_video_shorter_than_one_clip_gives_the_clips_once() -> None:
    frames = uniform_test(5, num_clips=2, clip_len=4, frame_interval=2, twice_sample=True)
    assert frames.tolist() == [0, 2, 4, 1] * 2


def test_training_depends_on_its_generator_only() -> None:
    draws = [
        uniform_train(100, np.random.RandomState(seed), num_clips=8, keep_tail_frames=True).tolist()
        for seed in (3, 3, 4)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.fixture(scope="module")
def indices(fixtures: Path) -> dict[str, NDArray[np.int64]]:
    """For each of `lengths`, the frames that the original's sampler selects, padded with -1."""
    with np.load(fixtures / "paddle" / "sampling_indices.npz") as archive:
        return {name: archive[name] for name in archive.files if name != "meta_json"}


@pytest.mark.parametrize("segments", [8, 16])
def test_uniform_sampling_matches_paddlevideo_for_every_length(
    indices: dict[str, NDArray[np.int64]], segments: int
) -> None:
    for row, length in enumerate(indices["lengths"].tolist()):
        found = uniform_middles(length, num_segments=segments)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(
            found, indices[f"idx_uniform_video_{segments}"][row], err_msg=str(length)
        )
        # For shorter ones the original requests files that do not exist.
        if length >= segments:
            numbers = indices[f"idx_uniform_frame_{segments}"][row]
            np.testing.assert_array_equal(found + 1, numbers, err_msg=str(length))


@pytest.mark.parametrize(
    ("name", "segments"), [("dense_frame_8", 8), ("dense_video_8", 8), ("dense_frame_16", 16)]
)
def test_dense_sampling_matches_paddlevideo_for_every_length(
    indices: dict[str, NDArray[np.int64]], name: str, segments: int
) -> None:
    for row, length in enumerate(indices["lengths"].tolist()):
        # The original counts from 1 even for videos, which is a mistake.
        found = dense_test(length, num_clips=segments) + 1
        np.testing.assert_array_equal(found, indices[f"idx_{name}"][row], err_msg=str(length))


@pytest.mark.parametrize(("segments", "length"), [(7, 5), (25, 5), (3, 5), (7, 1), (8, 4)])
def test_segment_runs_match_stnet_for_every_length(fixtures: Path, segments: int, length: int) -> None:
    with np.load(fixtures / "mindspore" / "frame_indices.npz") as archive:
        expected = archive[f"eval_T{segments}_N{length}"]
    for total in range(1, 301):
        found = segment_runs(total, num_segments=segments, run_length=length)
        np.testing.assert_array_equal(found, expected[total - 1], err_msg=str(total))


def test_segment_runs_match_stnet_for_long_videos(fixtures: Path) -> None:
    with np.load(fixtures / "mindspore" / "frame_indices.npz") as archive:
        for total, expected in zip(archive["long_lengths"], archive["long_eval_T7_N5"], strict=True):
            found = segment_runs(int(total), num_segments=7, run_length=5)
            np.testing.assert_array_equal(found, expected, err_msg=str(total))


def test_random_runs_match_stnet(fixtures: Path) -> None:
    with np.load(fixtures / "mindspore" / "frame_indices.npz") as archive:
        for total, expected in enumerate(archive["train_T7_N5_seed_is_length"], 1):
            found = segment_runs_train(total, random.Random(total), num_segments=7, run_length=5)
            np.testing.assert_array_equal(found, expected, err_msg=str(total))
