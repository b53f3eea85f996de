"""Rendering of scenes to pixels."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.background import MARGIN
from demo.motion import Scene, Thing

__all__ = ["render_frames"]

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
Half = tuple[float, Floats]

# OpenCV reads corner coordinates as fixed point with this many binary places.
_PLACES = 4


def render_frames(scene: Scene, frames: Iterable[int] | None = None) -> NDArray[np.uint8]:
    """Return the frames numbered `frames` (0-based; all by default) of `scene`, uint8 RGB [n, height, width, 3].

    A frame's pixels depend on the scene and its number only, not on which other frames are rendered.
    """
    numbers = range(scene.length) if frames is None else frames
    halves = [_halves(thing) for thing in scene.things]
    return np.stack([_frame(scene, halves, number) for number in numbers])


def _frame(scene: Scene, halves: list[list[Half]], number: int) -> Image:
    camera = scene.camera[number]
    image = _view(scene, camera)
    centre = np.array([scene.width - 1, scene.height - 1]) / 2 - camera
    for thing, parts in zip(scene.things, halves, strict=True):
        _paint(image, parts, thing.colours, thing.track[number], centre)
    top, left = scene.grain[number]
    grain = scene.background.noise[top : top + scene.height, left : left + scene.width]
    return np.asarray(np.clip(image.astype(np.int16) + grain, 0, 255), np.uint8)


def _view(scene: Scene, camera: Floats) -> Image:
    """Return the part of the background that a camera displaced by `camera` pixels sees."""
    x, y = np.clip(camera, -MARGIN, MARGIN) + MARGIN
    move = np.array([[1, 0, -x], [0, 1, -y]])
    view = cv2.warpAffine(scene.background.image, move, (scene.width, scene.height), flags=cv2.INTER_LINEAR)
    return np.asarray(view, dtype=np.uint8)


def _halves(thing: Thing) -> list[Half]:
    """Return the two parts of a thing, cut along its second axis, each with its side (-1 or 1)."""
    return [(side, _cut(thing.outline, np.array([-side, 0.0]), 0.0)) for side in (-1.0, 1.0)]


def _paint(image: Image, halves: list[Half], colours: Floats, state: Floats, centre: Floats) -> None:
    x, y, size, angle, gap, level = state
    place = centre + np.array([x, y])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * size
    for (side, part), colour in zip(halves, colours[:2], strict=True):
        apart = np.array([side * gap / 2, 0.0])
        inked = _cut(part, np.array([0.0, 1.0]), level)
        for corners, paint in ((part, colour), (inked, colours[2])):
            _fill(image, (corners + apart) @ turn + place, paint)


def _cut(corners: Floats, normal: Floats, offset: float) -> Floats:
    """Return the part of a convex polygon where `normal` · point ≤ `offset` (possibly without corners)."""
    following = np.arange(1 - len(corners), 1)
    height = corners @ normal - offset
    fall = height - height[following]
    inside = height <= 0
    crossing = inside != inside[following]
    share = height / np.where(crossing, fall, 1.0)
    # Each corner is followed by the point where its edge crosses the line.
    both = np.empty((len(corners), 2, 2))
    both[:, 0] = corners
    both[:, 1] = corners + share[:, None] * (corners[following] - corners)
    return np.asarray(both[np.stack([inside, crossing], 1)])


def _fill(image: Image, corners: Floats, colour: Floats) -> None:
    if len(corners) > 2:
        fixed = np.rint(corners * (1 << _PLACES)).astype(np.int32)
        cv2.fillConvexPoly(image, fixed, colour.tolist(), lineType=cv2.LINE_AA, shift=_PLACES)
