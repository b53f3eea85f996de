"""Only time tells the classes apart: the properties that the demo's claim rests on."""

from __future__ import annotations

import numpy as np
import pytest

from demo.drawing import draw_frames
from demo.motion import FACTORS, MOTIONS, Scene, draw_scene, label_names, partner, reversed_scene

LABELS = range(len(MOTIONS))


def _actor(scene: Scene, factor: str) -> np.ndarray:
    return scene.things[-1].track[:, FACTORS.index(factor)]


@pytest.mark.parametrize("label", LABELS)
def test_reversed_clip_is_a_clip_of_the_partner(label: int) -> None:
    scene = draw_scene(label, seed=(1, label))
    backwards = reversed_scene(scene)
    assert backwards.label == partner(label) != label
    assert partner(backwards.label) == label
    np.testing.assert_array_equal(draw_frames(backwards), draw_frames(scene)[::-1])
    # The clock that runs through it is the one that the partner's own scene of this seed has.
    factor = MOTIONS[label].factor
    if factor not in ("x", "y"):
        np.testing.assert_array_equal(
            _actor(backwards, factor), _actor(draw_scene(partner(label), seed=(1, label)), factor)
        )


@pytest.mark.parametrize("label", LABELS)
def test_one_clock_runs_and_in_the_direction_of_the_class(label: int) -> None:
    motion = MOTIONS[label]
    assert MOTIONS[partner(label)].factor == motion.factor
    for seed in range(20):
        scene = draw_scene(label, seed=(seed,))
        for factor in FACTORS:
            values = _actor(scene, factor)
            if factor == motion.factor:
                assert np.sign(values[-1] - values[0]) == motion.direction
                # Places tremble a little; every other factor never turns back.
                assert factor in ("x", "y") or (np.diff(values) * motion.direction >= -1e-12).all()
            elif factor not in ("x", "y"):
                assert np.ptp(values) == 0
            else:
                assert np.ptp(values) < 6


def test_scenes_of_one_seed_differ_in_the_actors_track_only() -> None:
    first, *others = (draw_scene(label, seed=(5, 6)) for label in LABELS)
    for other in others:
        np.testing.assert_array_equal(other.backdrop.image, first.backdrop.image)
        np.testing.assert_array_equal(other.camera, first.camera)
        np.testing.assert_array_equal(other.grain, first.grain)
        for thing, same in zip(other.things[:-1], first.things[:-1], strict=True):
            np.testing.assert_array_equal(thing.track, same.track)
        np.testing.assert_array_equal(other.things[-1].colours, first.things[-1].colours)
        assert not np.array_equal(other.things[-1].track, first.things[-1].track)


@pytest.fixture(scope="module")
def random_frames() -> np.ndarray:
    """The actor's factors in one random frame of each of 120 scenes a class: [12, 120, 6]."""
    random = np.random.default_rng(0)
    scenes = [[draw_scene(label, seed=(9, label, i)) for i in range(120)] for label in LABELS]
    return np.array(
        [[scene.things[-1].track[random.integers(scene.length)] for scene in row] for row in scenes]
    )


@pytest.mark.parametrize("factor", FACTORS)
def test_a_random_frame_is_distributed_alike_in_all_classes(random_frames: np.ndarray, factor: str) -> None:
    running = np.array([motion.factor == factor for motion in MOTIONS])
    values = random_frames[:, :, FACTORS.index(factor)]
    still, moving = np.sort(values[~running].ravel()), np.sort(values[running].ravel())
    # Kolmogorov and Smirnov's distance, against its value at a level of one in a million.
    at = np.concatenate([still, moving])
    shares = [np.searchsorted(some, at, "right") / len(some) for some in (still, moving)]
    assert np.abs(shares[0] - shares[1]).max() < 2.7 * np.sqrt(1 / len(still) + 1 / len(moving))


def test_the_same_seed_gives_the_same_pixels_and_another_gives_others() -> None:
    first = draw_frames(draw_scene(3, seed=(0, 1)))
    np.testing.assert_array_equal(first, draw_frames(draw_scene(3, seed=(0, 1))))
    other = draw_frames(draw_scene(3, seed=(0, 2)))
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_frame_does_not_depend_on_which_others_are_drawn() -> None:
    scene = draw_scene(6, seed=(4,))
    whole = draw_frames(scene)
    assert whole.shape == (scene.length, scene.height, scene.width, 3)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(draw_frames(scene, [7, 2]), whole[[7, 2]])


def test_clips_vary_in_length_and_size_and_have_even_sides() -> None:
    scenes = [draw_scene(i % 12, seed=(i,)) for i in range(100)]
    assert {scene.width for scene in scenes} == {80, 96, 112}
    assert all(scene.width % 2 == 0 and scene.height % 2 == 0 for scene in scenes)
    assert min(scene.length for scene in scenes) >= 24
    assert max(scene.length for scene in scenes) <= 48
    assert len({scene.length for scene in scenes}) > 15


@pytest.mark.parametrize(("factor", "label"), [("level", 10), ("size", 4)])
def test_what_is_drawn_follows_the_track(factor: str, label: int) -> None:
    """The bright ink, or the thing's area, covers more of the picture at the end than at the beginning."""
    grown = 0
    for seed in range(20):
        scene = draw_scene(label, seed=(77, seed))
        alone = Scene(
            **{**vars(scene), "things": scene.things[-1:], "camera": np.zeros_like(scene.camera)},
        )
        first, last = draw_frames(alone, [0, scene.length - 1]).astype(int)
        colour = scene.things[-1].colours[2 if factor == "level" else 0]
        areas = [(np.abs(frame - colour).max(2) < 40).sum() for frame in (first, last)]
        grown += areas[1] > areas[0]
    assert grown >= 17


def test_names_are_the_templates_without_brackets() -> None:
    names = label_names()
    assert len(set(names)) == 12
    assert not any(mark in name for name in names for mark in "[]")
    assert all("[something]" in motion.template for motion in MOTIONS)
