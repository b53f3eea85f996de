"""Reflections in space and time of a labelled clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from demo.motion_sets import FACTORS, Factor, MotionSet, partner

__all__ = ["Symmetry", "scatter", "symmetries"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Symmetry:
    """The map of a clip's pixels [frames, height, width, 3], a view of them, and the new label of each label."""

    pixels: Callable[[Pixels], Pixels]
    labels: tuple[int, ...]


@cache
def symmetries(motions: MotionSet) -> tuple[Symmetry, ...]:
    """Return the reflections in time, left and right, up and down, and in the diagonal."""

    def labels(reversed_factors: set[Factor], swapped: dict[Factor, Factor] | None = None) -> tuple[int, ...]:
        places = {(motion.factor, motion.direction): label for label, motion in enumerate(motions.motions)}
        images = [places[(swapped or {}).get(m.factor, m.factor), m.direction] for m in motions.motions]
        changed = (motions.motions[image].factor in reversed_factors for image in images)
        return tuple(
            partner(image) if change else image for image, change in zip(images, changed, strict=True)
        )

    # There and back is the same in reverse.
    backwards = set(FACTORS) if motions.phases == 1 else set()
    return (
        Symmetry(partial(np.flip, axis=0), labels(backwards)),
        Symmetry(partial(np.flip, axis=2), labels({"x", "angle"})),
        Symmetry(partial(np.flip, axis=1), labels({"y", "angle"})),
        Symmetry(partial(np.swapaxes, axis1=1, axis2=2), labels({"angle"}, {"x": "y", "y": "x"})),
    )


def scatter(
    pixels: Pixels, label: int, random: np.random.Generator, *, motions: MotionSet
) -> tuple[Pixels, int]:
    """Return the clip in a random order of colours, each symmetry applied with probability one half."""
    pixels = pixels[..., random.permutation(3)]
    for symmetry in symmetries(motions):
        if random.random() < 0.5:
            pixels, label = symmetry.pixels(pixels), symmetry.labels[label]
    return pixels, label
