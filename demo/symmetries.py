"""Mirrors of space and time that turn one labelled clip into another, label included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.motion import MOTIONS, Factor, partner

__all__ = ["SYMMETRIES", "Symmetry", "scatter"]


@dataclass(frozen=True)
class Symmetry:
    """What happens to pixels [n, segments, 3, side, side], and to each label."""

    pixels: Callable[[Tensor], Tensor]
    labels: tuple[int, ...]


def _labels(swapped: dict[Factor, Factor], turned_back: set[Factor]) -> tuple[int, ...]:
    """Return each label's image when factors are exchanged and the direction of some is reversed."""
    places = {(motion.factor, motion.direction): label for label, motion in enumerate(MOTIONS)}
    images = [places[swapped.get(m.factor, m.factor), m.direction] for m in MOTIONS]
    return tuple(partner(image) if MOTIONS[image].factor in turned_back else image for image in images)


SYMMETRIES = (
    Symmetry(lambda clips: clips.flip(1), _labels({}, {motion.factor for motion in MOTIONS})),
    Symmetry(lambda clips: clips.flip(4), _labels({}, {"x", "angle"})),
    Symmetry(lambda clips: clips.flip(3), _labels({}, {"y", "angle"})),
    Symmetry(lambda clips: clips.transpose(3, 4), _labels({"x": "y", "y": "x"}, {"angle"})),
)


def scatter(clips: Tensor, labels: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the clips with each symmetry applied to a random half of them, and one order of colours for all."""
    clips = clips[:, :, torch.randperm(3, generator=random)]
    labels = labels.clone()
    for symmetry in SYMMETRIES:
        chosen = torch.rand(len(clips), generator=random) < 0.5
        clips[chosen] = symmetry.pixels(clips[chosen])
        labels[chosen] = torch.tensor(symmetry.labels)[labels[chosen]]
    return clips, labels
