"""Reflections: their pixels, and the labels that they change."""

from __future__ import annotations

import numpy as np
import pytest

from demo.motion import generate_scene
from demo.motion_sets import FACTORS, ONE_WAY, THERE_AND_BACK, MotionSet
from demo.symmetries import scatter, symmetries

SETS = [ONE_WAY, THERE_AND_BACK]


def changes(motions: MotionSet, which: int) -> dict[str, str]:
    images = symmetries(motions)[which].labels
    return {motions.names[old]: motions.names[new] for old, new in enumerate(images) if old != new}


def test_reflections_change_the_labels_of_reversed_directions() -> None:
    left, right = "Moving something from right to left", "Moving something from left to right"
    up, down = "Moving something up", "Moving something down"
    clockwise, counter = "Turning something clockwise", "Turning something counter-clockwise"
    turned = {clockwise: counter, counter: clockwise}
    reversed_time = symmetries(ONE_WAY)[0]
    assert list(reversed_time.labels) == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]
    assert changes(ONE_WAY, 1) == {left: right, right: left, **turned}
    assert changes(ONE_WAY, 2) == {up: down, down: up, **turned}
    assert changes(ONE_WAY, 3) == {left: up, up: left, right: down, down: right, **turned}


def test_a_motion_there_and_back_is_the_same_in_reverse() -> None:
    assert changes(THERE_AND_BACK, 0) == {}
    for label in range(12):
        factor = FACTORS.index(THERE_AND_BACK.motions[label].factor)
        scene = generate_scene(label, seed=(label,), motions=THERE_AND_BACK)
        values = scene.things[-1].track[:, factor]
        peak, ends = values[len(values) // 2], values[[0, -1]].mean()
        backwards = values[::-1]
        assert np.sign(peak - ends) == THERE_AND_BACK.motions[label].direction
        assert np.sign(backwards[len(values) // 2] - backwards[[0, -1]].mean()) == np.sign(peak - ends)
    picked = "Picking something up, then putting it down"
    assert changes(THERE_AND_BACK, 2)[picked] == "Putting something down, then picking it up"


def test_reflections_flip_their_axes() -> None:
    clip = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    # The new position of the pixel of frame 1, row 1, column 3.
    for symmetry, place in zip(
        symmetries(ONE_WAY), [(0, 1, 3), (1, 1, 0), (1, 2, 3), (1, 3, 1)], strict=True
    ):
        np.testing.assert_array_equal(symmetry.pixels(clip)[place], clip[1, 1, 3])


@pytest.mark.parametrize("motions", SETS)
def test_scatter_keeps_the_pixels_and_gives_every_class_of_the_same_kind(motions: MotionSet) -> None:
    clip = np.arange(8 * 4 * 4 * 3, dtype=np.int16).reshape(8, 4, 4, 3)
    before, random, seen = clip.copy(), np.random.default_rng(3), set()
    for _ in range(200):
        pixels, label = scatter(clip, 0, random, motions=motions)
        np.testing.assert_array_equal(np.sort(pixels.ravel()), clip.ravel())
        seen.add(motions.motions[label].factor)
    np.testing.assert_array_equal(clip, before)
    assert seen == {"x", "y"}
