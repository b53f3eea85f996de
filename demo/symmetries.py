"""Reflections in space and time of labelled clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.motion import MOTIONS, Factor, partner

__all__ = ["SYMMETRIES", "Symmetry", "scatter"]


@dataclass(frozen=True)
class Symmetry:
    """The map of pixels [n, segments, 3, side, side] and the new label of each label."""

    pixels: Callable[[Tensor], Tensor]
    labels: tuple[int, ...]


def _labels(swapped: dict[Factor, Factor], reversed_factors: set[Factor]) -> tuple[int, ...]:
    """Return the new label of each label when factors are swapped and the direction of some is reversed."""
    places = {(motion.factor, motion.direction): label for label, motion in enumerate(MOTIONS)}
    images = [places[swapped.get(m.factor, m.factor), m.direction] for m in MOTIONS]
    return tuple(partner(image) if MOTIONS[image].factor in reversed_factors else image for image in images)


SYMMETRIES = (
    Symmetry(lambda clips: clips.flip(1), _labels({}, {motion.factor for motion in MOTIONS})),
    Symmetry(lambda clips: clips.flip(4), _labels({}, {"x", "angle"})),
    Symmetry(lambda clips: clips.flip(3), _labels({}, {"y", "angle"})),
    Symmetry(lambda clips: clips.transpose(3, 4), _labels({"x": "y", "y": "x"}, {"angle"})),
)


def scatter(clips: Tensor, labels: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the clips with each symmetry applied to a random half, and one random channel order for all."""
    clips = clips[:, :, torch.randperm(3, generator=random)]
    labels = labels.clone()
    for symmetry in SYMMETRIES:
        chosen = torch.rand(len(clips), generator=random) < 0.5
        clips[chosen] = symmetry.pixels(clips[chosen])
        labels[chosen] = torch.tensor(symmetry.labels)[labels[chosen]]
    return clips, labels
