"""The twelve motions of the demo, and scenes in which nothing but time tells them apart.

Every scene runs six independent clocks: where the actor is, how large, how turned, how far open, how full.
The class says which one of them runs through the clip, and in which direction; each other clock is stopped
at a random moment of a run drawn from the same distribution. A frame taken at random is therefore
distributed equally in all twelve classes, and reversing a clip turns its class into its partner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from demo.backdrop import MARGIN, Backdrop, draw_backdrop, far_colour

__all__ = [
    "FACTORS",
    "GENERATOR_VERSION",
    "MOTIONS",
    "Factor",
    "Motion",
    "Scene",
    "Thing",
    "draw_scene",
    "label_names",
    "partner",
    "reversed_scene",
]

Factor = Literal["x", "y", "size", "angle", "gap", "level"]
Floats = NDArray[np.float64]

# Raised whenever the same seed gives other pixels, so that data sets made before are made anew.
GENERATOR_VERSION = 1

FACTORS: tuple[Factor, ...] = ("x", "y", "size", "angle", "gap", "level")
HEIGHT = 72
WIDTHS = (80, 96, 112)
SHORTEST, LONGEST = 24, 48
SHAPES = {3: "a triangle", 4: "a square", 5: "a pentagon", 6: "a hexagon", 16: "a disc"}


@dataclass(frozen=True)
class Motion:
    """One class: the factor whose clock runs, and +1 where its value rises through the clip."""

    template: str
    factor: Factor
    direction: Literal[1, -1]


# Partners are neighbours: the class of a clip played backwards is its label with the last bit flipped.
MOTIONS: tuple[Motion, ...] = (
    Motion("Moving [something] from left to right", "x", 1),
    Motion("Moving [something] from right to left", "x", -1),
    Motion("Moving [something] down", "y", 1),
    Motion("Moving [something] up", "y", -1),
    Motion("Making [something] larger", "size", 1),
    Motion("Making [something] smaller", "size", -1),
    Motion("Turning [something] clockwise", "angle", 1),
    Motion("Turning [something] counter-clockwise", "angle", -1),
    Motion("Opening [something]", "gap", 1),
    Motion("Closing [something]", "gap", -1),
    Motion("Filling [something]", "level", 1),
    Motion("Emptying [something]", "level", -1),
)


@dataclass(frozen=True)
class Thing:
    """A convex shape cut in two parts that can move apart, filled with ink up to a level.

    `name` is what one would call it; `outline` holds its corners [p, 2] in units of its size; `colours` the two
    parts and the ink, RGB [3, 3]; `track` the six factors at every frame [n, 6], in the order of FACTORS: x
    and y in pixels from the frame's centre, size in pixels, angle in radians (clockwise on the screen), gap
    and level in sizes.
    """

    name: str
    outline: Floats
    colours: Floats
    track: Floats


@dataclass(frozen=True)
class Scene:
    """All there is to draw a clip: the backdrop, the things from back to front, and how the camera shakes.

    The last thing is the actor. `camera` [n, 2] is in pixels; `grain` [n, 2] says where each frame takes its
    sensor noise from.
    """

    label: int
    width: int
    height: int
    backdrop: Backdrop
    things: tuple[Thing, ...]
    camera: Floats
    grain: NDArray[np.int64]

    @property
    def length(self) -> int:
        """The number of frames."""
        return len(self.camera)


def label_names() -> list[str]:
    """Return the twelve class names in label order: the templates without their brackets."""
    return [motion.template.replace("[", "").replace("]", "") for motion in MOTIONS]


def partner(label: int) -> int:
    """Return the class that a clip of class `label` belongs to when it is played backwards."""
    return label ^ 1


def reversed_scene(scene: Scene) -> Scene:
    """Return the scene whose frames are those of `scene` in reverse order, under the partner's label."""
    return replace(
        scene,
        label=partner(scene.label),
        things=tuple(replace(thing, track=thing.track[::-1]) for thing in scene.things),
        camera=scene.camera[::-1],
        grain=scene.grain[::-1],
    )


def draw_scene(label: int, *, seed: tuple[int, ...]) -> Scene:
    """Return the scene that `seed` gives class `label`.

    Scenes of one seed differ between classes only in the actor's track: which clock runs, and which way.
    """
    rng = np.random.default_rng(seed)
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    width = int(rng.choice(WIDTHS))
    backdrop = draw_backdrop(rng, width=width, height=HEIGHT)
    distractors = [_distractor(rng, length, width, backdrop) for _ in range(rng.integers(1, 4))]
    actor = _thing(rng, _actor_track(rng, length, MOTIONS[label]), backdrop)
    return Scene(
        label=label,
        width=width,
        height=HEIGHT,
        backdrop=backdrop,
        things=(*distractors, actor),
        camera=_shake(rng, length, 2, reach=1.0),
        grain=rng.integers(0, 2 * MARGIN + 1, (length, 2)),
    )


def _actor_track(rng: np.random.Generator, length: int, motion: Motion) -> Floats:
    low, span = _ranges(rng)
    track = np.empty((length, len(FACTORS)))
    for column, factor in enumerate(FACTORS):
        clock = _clock(rng, length)
        stop = clock[rng.integers(length)]
        if factor != motion.factor:
            clock = np.full(length, stop)
        elif motion.direction < 0:
            clock = clock[::-1]
        track[:, column] = low[column] + span[column] * clock
    track[:, :2] += _shake(rng, length, 2, reach=0.5)
    track[:, 2] = np.exp(track[:, 2])
    return track


def _ranges(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return where each factor's run begins and how far it goes; size is a logarithm here."""
    span = rng.uniform([18, 18, 0.6, 1.5, 0.8, 1.1], [30, 30, 0.9, 2.7, 1.2, 1.5])
    middle = rng.uniform([-6, -6, np.log(11), -np.pi, 0.7, -0.1], [6, 6, np.log(14), np.pi, 0.8, 0.1])
    return middle - span / 2, span


def _clock(rng: np.random.Generator, length: int) -> Floats:
    """Return a run from 0 to 1 over `length` frames: it may start late, end early, speed up or slow down."""
    start, stop = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    run = np.clip((np.linspace(0, 1, length) - start) / (stop - start), 0, 1)
    return np.asarray(run ** np.exp(rng.uniform(-0.5, 0.5)))


def _shake(rng: np.random.Generator, length: int, columns: int, *, reach: float) -> Floats:
    """Return smooth trembling [length, columns] of about `reach`; its law is the same backwards."""
    white = rng.normal(0, reach, (length + 2, columns))
    return np.asarray((white[:-2] + white[1:-1] + white[2:]) / np.sqrt(3))


def _distractor(rng: np.random.Generator, length: int, width: int, backdrop: Backdrop) -> Thing:
    """Return a small thing that stays where it is, still or trembling."""
    reach = float(rng.choice([0.0, 0.8, 1.6]))
    low = [-width / 2, -HEIGHT / 2, 4, -np.pi, 0, -0.5]
    still = rng.uniform(low, [width / 2, HEIGHT / 2, 9, np.pi, 0.8, 0.5])
    track = np.tile(still, (length, 1))
    track[:, :2] += _shake(rng, length, 2, reach=reach)
    return _thing(rng, track, backdrop)


def _thing(rng: np.random.Generator, track: Floats, backdrop: Backdrop) -> Thing:
    corners = int(rng.choice(list(SHAPES)))
    turn = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    outline = np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.85, 1.15, 2)
    near = [backdrop.mean]
    for low, high in ((0, 140), (0, 140), (200, 255)):
        near.append(far_colour(rng, near, low=low, high=high))
    return Thing(name=SHAPES[corners], outline=outline, colours=np.array(near[1:]), track=track)
