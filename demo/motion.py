"""Scenes of moving things that only the order of frames distinguishes.

Every scene has six independent factors of the actor: x, y, size, angle, gap and level. The class defines which of
them changes during the clip, and in which direction first; each other factor is constant at a random moment of a
change from the same distribution. A random frame therefore has the same distribution in all twelve classes of a set,
and two partners have the same set of frames; reversing a one-way clip turns its class into its partner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from demo.background import MARGIN, Background, distinct_colour, generate_background
from demo.motion_sets import FACTORS, ONE_WAY, MotionSet, partner

__all__ = ["GENERATOR_VERSION", "Scene", "Thing", "generate_scene", "reversed_scene"]

Floats = NDArray[np.float64]

# Increase it when the same seed gives different pixels, so that older data sets are generated again.
GENERATOR_VERSION = 1

SHAPES = {3: "a triangle", 4: "a square", 5: "a pentagon", 6: "a hexagon", 16: "a disc"}


@dataclass(frozen=True)
class Thing:
    """A convex shape of two parts that can move apart, filled with a third colour up to a level.

    `name` is that in the annotation; `outline` the corners [p, 2] in units of its size; `colours` those of the two
    parts and the filling, RGB [3, 3]; `track` the six factors at every frame [n, 6], in the order of FACTORS: x and y
    in pixels from the frame's centre, size in pixels, angle in radians (clockwise on the screen), gap and level in
    sizes.
    """

    name: str
    outline: Floats
    colours: Floats
    track: Floats


@dataclass(frozen=True)
class Scene:
    """The description of a clip: background, things from back to front, and camera shake.

    The last thing is the actor. `camera` [n, 2] is in pixels; `grain` [n, 2] is the offset of each frame's noise.
    """

    label: int
    width: int
    height: int
    background: Background
    things: tuple[Thing, ...]
    camera: Floats
    grain: NDArray[np.int64]

    @property
    def length(self) -> int:
        """The number of frames."""
        return len(self.camera)


def reversed_scene(scene: Scene) -> Scene:
    """Return the scene of one-way motions with the frames of `scene` in reverse order, under the partner's label."""
    return replace(
        scene,
        label=partner(scene.label),
        things=tuple(replace(thing, track=thing.track[::-1]) for thing in scene.things),
        camera=scene.camera[::-1],
        grain=scene.grain[::-1],
    )


def generate_scene(label: int, *, seed: tuple[int, ...], motions: MotionSet = ONE_WAY) -> Scene:
    """Return the scene of class `label` of the set for `seed`.

    Scenes of one seed differ between classes only in the actor's track.
    """
    rng = np.random.default_rng(seed)
    shortest, longest = motions.lengths
    length = int(rng.integers(shortest, longest + 1))
    width, height = int(rng.choice(motions.widths)), motions.height
    background = generate_background(rng, width=width, height=height)
    distractors = [_distractor(rng, length, width, motions, background) for _ in range(rng.integers(1, 4))]
    actor = _thing(rng, _actor_track(rng, length, label, motions), background)
    return Scene(
        label=label,
        width=width,
        height=height,
        background=background,
        things=(*distractors, actor),
        camera=_shake(rng, length, 2, reach=1.0),
        grain=rng.integers(0, 2 * MARGIN + 1, (length, 2)),
    )


def _actor_track(rng: np.random.Generator, length: int, label: int, motions: MotionSet) -> Floats:
    motion = motions.motions[label]
    low, span = _ranges(rng)
    track = np.empty((length, len(FACTORS)))
    for column, factor in enumerate(FACTORS):
        clocks = [_clock(rng, part) for part in _parts(rng, length, motions.phases)]
        stop = np.concatenate(clocks)[rng.integers(length)]
        if factor != motion.factor:
            clock = np.full(length, stop)
        else:
            # The phases alternate between up and down, without a change of their frames but in order.
            clock = np.concatenate(
                [one[:: motion.direction * (-1) ** phase] for phase, one in enumerate(clocks)]
            )
        track[:, column] = low[column] + span[column] * clock
    track[:, :2] += _shake(rng, length, 2, reach=0.5)
    track[:, 2] = np.exp(track[:, 2])
    track[:, :3] *= motions.scale
    return track


def _parts(rng: np.random.Generator, length: int, phases: int) -> list[int]:
    """Return the frames of each phase; the second of two begins around the middle."""
    if phases == 1:
        return [length]
    first = int(rng.integers(2 * length // 5, 3 * length // 5 + 1))
    return [first, length - first]


def _ranges(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the start and the span of each factor; that of size is logarithmic."""
    span = rng.uniform([18, 18, 0.6, 1.5, 0.8, 1.1], [30, 30, 0.9, 2.7, 1.2, 1.5])
    middle = rng.uniform([-6, -6, np.log(11), -np.pi, 0.7, -0.1], [6, 6, np.log(14), np.pi, 0.8, 0.1])
    return middle - span / 2, span


def _clock(rng: np.random.Generator, length: int) -> Floats:
    """Return an increase from 0 to 1 over `length` frames, which may start late, end early, speed up or slow down."""
    start, stop = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    run = np.clip((np.linspace(0, 1, length) - start) / (stop - start), 0, 1)
    return np.asarray(run ** np.exp(rng.uniform(-0.5, 0.5)))


def _shake(rng: np.random.Generator, length: int, columns: int, *, reach: float) -> Floats:
    """Return smooth random shake [length, columns] of about `reach`; reversed, it has the same distribution."""
    white = rng.normal(0, reach, (length + 2, columns))
    return np.asarray((white[:-2] + white[1:-1] + white[2:]) / np.sqrt(3))


def _distractor(
    rng: np.random.Generator, length: int, width: int, motions: MotionSet, background: Background
) -> Thing:
    """Return a small thing at a fixed place, still or shaking."""
    reach, height, scale = float(rng.choice([0.0, 0.8, 1.6])), motions.height, motions.scale
    low = [-width / 2, -height / 2, 4 * scale, -np.pi, 0, -0.5]
    still = rng.uniform(low, [width / 2, height / 2, 9 * scale, np.pi, 0.8, 0.5])
    track = np.tile(still, (length, 1))
    track[:, :2] += _shake(rng, length, 2, reach=reach)
    return _thing(rng, track, background)


def _thing(rng: np.random.Generator, track: Floats, background: Background) -> Thing:
    corners = int(rng.choice(list(SHAPES)))
    turn = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    outline = np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.85, 1.15, 2)
    near = [background.mean]
    for low, high in ((0, 140), (0, 140), (200, 255)):
        near.append(distinct_colour(rng, near, low=low, high=high))
    return Thing(name=SHAPES[corners], outline=outline, colours=np.array(near[1:]), track=track)
