"""Generated backgrounds: colour gradients, stripes or cloud noise, with sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "Background", "distinct_colour", "generate_background"]

Floats = NDArray[np.float64]

# Pixels on each side that a shaking camera may uncover.
MARGIN = 8


@dataclass(frozen=True)
class Background:
    """A background larger than the frame by MARGIN on each side, its mean colour, and a noise image.

    `image` is uint8 RGB [height + 2 MARGIN, width + 2 MARGIN, 3]; `noise` is int16 of the same shape; each frame
    adds its own crop of it.
    """

    image: NDArray[np.uint8]
    mean: Floats
    noise: NDArray[np.int16]


def generate_background(rng: np.random.Generator, *, width: int, height: int) -> Background:
    """Return a background of random pattern, colours and noise for frames of `width` by `height`."""
    wide, high = width + 2 * MARGIN, height + 2 * MARGIN
    one = rng.uniform(60, 180, 3)
    other = one + rng.uniform(-50, 50, 3)
    pattern = [_gradient, _stripes, _clouds][rng.integers(3)](rng, wide, high)
    image = one + (other - one) * pattern[..., None]
    noise = np.rint(rng.normal(0, rng.uniform(1, 6), (high, wide, 3)))
    return Background(
        image=np.rint(image).astype(np.uint8),
        mean=image.mean((0, 1)),
        noise=noise.astype(np.int16),
    )


def distinct_colour(rng: np.random.Generator, others: list[Floats], *, low: float, high: float) -> Floats:
    """Return an RGB colour different from `others`: of eight random ones, that with the largest minimum distance."""
    colours = rng.uniform(low, high, (8, 3))
    apart = np.linalg.norm(colours[:, None] - np.array(others)[None], axis=2).min(1)
    return np.asarray(colours[apart.argmax()])


def _along(rng: np.random.Generator, wide: int, high: int) -> Floats:
    """Return each pixel's coordinate along a random direction, in units of the height."""
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:high, :wide] / high
    return np.asarray(x * np.cos(turn) + y * np.sin(turn))


def _gradient(rng: np.random.Generator, wide: int, high: int) -> Floats:
    along = _along(rng, wide, high)
    return np.asarray((along - along.min()) / np.ptp(along))


def _stripes(rng: np.random.Generator, wide: int, high: int) -> Floats:
    waves = 2 * np.pi * rng.uniform(3, 9) * _along(rng, wide, high)
    return np.asarray(0.5 + 0.5 * np.sin(waves))


def _clouds(rng: np.random.Generator, wide: int, high: int) -> Floats:
    coarse = rng.uniform(0, 1, (int(rng.integers(4, 12)), int(rng.integers(4, 12))))
    return np.clip(cv2.resize(coarse, (wide, high), interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float64)
