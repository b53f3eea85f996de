"""Frame indices against the tables that mmaction2 itself produced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.tensors.sampling import dense_test, dense_train, uniform_test, uniform_train

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
def test_every_length_gives_the_frames_of_the_original(name: str, start_index: int) -> None:
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


def test_too_short_for_one_clip_gives_the_clips_once() -> None:
    frames = uniform_test(5, num_clips=2, clip_len=4, frame_interval=2, twice_sample=True)
    assert frames.tolist() == [0, 2, 4, 1] * 2


def test_training_follows_its_generator_only() -> None:
    draws = [
        uniform_train(100, np.random.RandomState(seed), num_clips=8, keep_tail_frames=True).tolist()
        for seed in (3, 3, 4)
    ]
    assert draws[0] == draws[1] != draws[2]
