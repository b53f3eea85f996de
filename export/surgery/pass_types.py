"""The type of a pass, and the options of surgery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import onnx_ir as ir

__all__ = ["AVERAGES", "TARGETS", "AverageClips", "Options", "Pass", "Target"]

AverageClips = Literal["score", "prob", "keep"]
AVERAGES: tuple[AverageClips, ...] = get_args(AverageClips)
Target = Literal["ascend310p", "cpu"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True)
class Options:
    """Options of all passes: batch size (None keeps it), average of a sample's clips, what will run the graph."""

    batch_size: int | None = None
    average_clips: AverageClips = "score"
    target: Target = "ascend310p"


@dataclass(frozen=True)
class Pass:
    """A named transformation of a graph for some targets.

    `apply` changes the graph in place and returns whether it changed anything; its docstring lists what is rewritten
    and what is not.
    """

    name: str
    summary: str
    apply: Callable[[ir.Model, Options], bool]
    targets: tuple[Target, ...] = TARGETS
