"""The classes of motions: one-way motions, and motions there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["FACTORS", "MOTION_SETS", "ONE_WAY", "THERE_AND_BACK", "Factor", "Motion", "MotionSet", "partner"]

Factor = Literal["x", "y", "size", "angle", "gap", "level"]

FACTORS: tuple[Factor, ...] = ("x", "y", "size", "angle", "gap", "level")


@dataclass(frozen=True)
class Motion:
    """One class: the factor that changes, and +1 if its value increases first."""

    template: str
    factor: Factor
    direction: Literal[1, -1]

    @property
    def name(self) -> str:
        """The class name: the template without brackets."""
        return self.template.replace("[", "").replace("]", "")


@dataclass(frozen=True)
class MotionSet:
    """Twelve classes and the videos that show them: height and widths in pixels, shortest and longest in frames.

    In each of `phases` the factor goes from one end of its range to the other. Opposites are adjacent: `partner`.
    """

    motions: tuple[Motion, ...]
    phases: Literal[1, 2]
    height: int
    widths: tuple[int, ...]
    lengths: tuple[int, int]

    @property
    def scale(self) -> float:
        """The size of things and of their motions, 1 for frames of 72 rows."""
        return self.height / 72

    @property
    def names(self) -> list[str]:
        """The class names in label order."""
        return [motion.name for motion in self.motions]


def partner(label: int) -> int:
    """Return the class of the opposite direction."""
    return label ^ 1


ONE_WAY = MotionSet(
    motions=(
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
    ),
    phases=1,
    height=72,
    widths=(80, 96, 112),
    lengths=(24, 48),
)

THERE_AND_BACK = MotionSet(
    motions=(
        Motion("Moving [something] right, then back", "x", 1),
        Motion("Moving [something] left, then back", "x", -1),
        Motion("Putting [something] down, then picking it up", "y", 1),
        Motion("Picking [something] up, then putting it down", "y", -1),
        Motion("Making [something] larger, then smaller", "size", 1),
        Motion("Making [something] smaller, then larger", "size", -1),
        Motion("Turning [something] clockwise, then back", "angle", 1),
        Motion("Turning [something] counter-clockwise, then back", "angle", -1),
        Motion("Opening [something], then closing it", "gap", 1),
        Motion("Closing [something], then opening it", "gap", -1),
        Motion("Filling [something], then emptying it", "level", 1),
        Motion("Emptying [something], then filling it", "level", -1),
    ),
    phases=2,
    height=112,
    widths=(128, 144, 160),
    lengths=(32, 32),
)

MOTION_SETS: Mapping[str, MotionSet] = MappingProxyType({"demo": ONE_WAY, "demo_phases": THERE_AND_BACK})
"""The set of each data set's name in a recipe."""
