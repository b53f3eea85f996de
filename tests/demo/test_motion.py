"""Only the order of frames distinguishes the classes."""

from __future__ import annotations

import numpy as np
import pytest

from demo.motion import Scene, generate_scene, reversed_scene
from demo.motion_sets import FACTORS, ONE_WAY, THERE_AND_BACK, MotionSet, partner
from demo.rendering import render_frames

LABELS = range(len(ONE_WAY.motions))


def _actor(scene: Scene, factor: str) -> np.ndarray:
    return scene.things[-1].track[:, FACTORS.index(factor)]


@pytest.mark.parametrize("label", LABELS)
def test_reversed_clip_is_a_clip_of_the_partner(label: int) -> None:
    scene = generate_scene(label, seed=(1, label))
    backwards = reversed_scene(scene)
    assert backwards.label == partner(label) != label
    assert partner(backwards.label) == label
    np.testing.assert_array_equal(render_frames(backwards), render_frames(scene)[::-1])
    # The change is that of the partner's own scene of this seed.
    factor = ONE_WAY.motions[label].factor
    if factor not in ("x", "y"):
        np.testing.assert_array_equal(
            _actor(backwards, factor), _actor(generate_scene(partner(label), seed=(1, label)), factor)
        )


@pytest.mark.parametrize("label", LABELS)
def test_one_factor_changes_in_the_direction_of_the_class(label: int) -> None:
    motion = ONE_WAY.motions[label]
    assert ONE_WAY.motions[partner(label)].factor == motion.factor
    for seed in range(20):
        scene = generate_scene(label, seed=(seed,))
        for factor in FACTORS:
            values = _actor(scene, factor)
            if factor == motion.factor:
                assert np.sign(values[-1] - values[0]) == motion.direction
                # Positions shake a little; every other factor is monotonic.
                assert factor in ("x", "y") or (np.diff(values) * motion.direction >= -1e-12).all()
            elif factor not in ("x", "y"):
                assert np.ptp(values) == 0
            else:
                assert np.ptp(values) < 6


def test_scenes_of_one_seed_differ_in_the_actors_track_only() -> None:
    first, *others = (generate_scene(label, seed=(5, 6)) for label in LABELS)
    for other in others:
        np.testing.assert_array_equal(other.background.image, first.background.image)
        np.testing.assert_array_equal(other.camera, first.camera)
        np.testing.assert_array_equal(other.grain, first.grain)
        for thing, same in zip(other.things[:-1], first.things[:-1], strict=True):
            np.testing.assert_array_equal(thing.track, same.track)
        np.testing.assert_array_equal(other.things[-1].colours, first.things[-1].colours)
        assert not np.array_equal(other.things[-1].track, first.things[-1].track)


@pytest.fixture(scope="module")
def random_frames() -> np.ndarray:
    """The actor's factors in one random frame of each of 120 scenes per class: [12, 120, 6]."""
    random = np.random.default_rng(0)
    scenes = [[generate_scene(label, seed=(9, label, i)) for i in range(120)] for label in LABELS]
    return np.array(
        [[scene.things[-1].track[random.integers(scene.length)] for scene in row] for row in scenes]
    )


@pytest.mark.slow
@pytest.mark.parametrize("factor", FACTORS)
def test_a_random_frame_has_the_same_distribution_in_all_classes(
    random_frames: np.ndarray, factor: str
) -> None:
    running = np.array([motion.factor == factor for motion in ONE_WAY.motions])
    values = random_frames[:, :, FACTORS.index(factor)]
    still, moving = np.sort(values[~running].ravel()), np.sort(values[running].ravel())
    # Kolmogorov-Smirnov distance, compared with its value at a level of one in a million.
    at = np.concatenate([still, moving])
    shares = [np.searchsorted(some, at, "right") / len(some) for some in (still, moving)]
    assert np.abs(shares[0] - shares[1]).max() < 2.7 * np.sqrt(1 / len(still) + 1 / len(moving))


def test_the_same_seed_gives_the_same_pixels_and_a_different_one_different_pixels() -> None:
    first = render_frames(generate_scene(3, seed=(0, 1)))
    np.testing.assert_array_equal(first, render_frames(generate_scene(3, seed=(0, 1))))
    other = render_frames(generate_scene(3, seed=(0, 2)))
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_frame_does_not_depend_on_the_other_rendered_frames() -> None:
    scene = generate_scene(6, seed=(4,))
    frames = render_frames(scene)
    assert frames.shape == (scene.length, scene.height, scene.width, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(render_frames(scene, [7, 2]), frames[[7, 2]])


def test_clips_vary_in_length_and_size_and_have_even_sides() -> None:
    scenes = [generate_scene(i % 12, seed=(i,)) for i in range(100)]
    assert {scene.width for scene in scenes} == {80, 96, 112}
    assert all(scene.width % 2 == 0 and scene.height % 2 == 0 for scene in scenes)
    assert min(scene.length for scene in scenes) >= 24
    assert max(scene.length for scene in scenes) <= 48
    assert len({scene.length for scene in scenes}) > 15


@pytest.mark.parametrize(("factor", "label"), [("level", 10), ("size", 4)])
def test_rendered_frames_follow_the_track(factor: str, label: int) -> None:
    """The bright filling, or the thing's area, covers more of the frame at the end than at the beginning."""
    grown = 0
    for seed in range(20):
        scene = generate_scene(label, seed=(77, seed))
        alone = Scene(
            **{**vars(scene), "things": scene.things[-1:], "camera": np.zeros_like(scene.camera)},
        )
        first, last = render_frames(alone, [0, scene.length - 1]).astype(int)
        colour = scene.things[-1].colours[2 if factor == "level" else 0]
        areas = [(np.abs(frame - colour).max(2) < 40).sum() for frame in (first, last)]
        grown += areas[1] > areas[0]
    assert grown >= 17


@pytest.mark.parametrize("motions", [ONE_WAY, THERE_AND_BACK])
def test_names_are_the_templates_without_brackets(motions: MotionSet) -> None:
    assert len(set(motions.names)) == 12
    assert not any(mark in name for name in motions.names for mark in "[]")
    assert all("[something]" in motion.template for motion in motions.motions)


@pytest.mark.parametrize("label", LABELS)
def test_there_and_back_goes_to_the_other_end_and_returns(label: int) -> None:
    motion = THERE_AND_BACK.motions[label]
    for seed in range(20):
        scene = generate_scene(label, seed=(seed,), motions=THERE_AND_BACK)
        values = _actor(scene, motion.factor) * motion.direction
        assert (scene.height, scene.length) == (112, 32)
        assert 32 * 2 // 5 - 2 <= values.argmax() <= 32 * 3 // 5 + 1
        # Positions shake a little.
        assert abs(values[0] - values[-1]) < 0.3 * np.ptp(values)


@pytest.mark.parametrize("label", range(0, 12, 2))
def test_only_the_order_of_frames_distinguishes_there_and_back_from_its_partner(label: int) -> None:
    column = FACTORS.index(THERE_AND_BACK.motions[label].factor)
    for seed in range(20):
        one, other = (
            generate_scene(which, seed=(seed,), motions=THERE_AND_BACK).things[-1].track
            for which in (label, partner(label))
        )
        assert not np.array_equal(one, other)
        if column >= 2:  # the shake of positions belongs to the moment
            np.testing.assert_array_equal(np.sort(one[:, column]), np.sort(other[:, column]))
