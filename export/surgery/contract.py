"""What a pass is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import onnx_ir as ir

__all__ = ["AVERAGES", "AverageClips", "Options", "Pass"]

AverageClips = Literal["score", "prob", "keep"]
AVERAGES: tuple[AverageClips, ...] = get_args(AverageClips)


@dataclass(frozen=True)
class Options:
    """What the user may choose: the batch (None keeps it) and how a sample's clips are averaged."""

    batch_size: int | None = None
    average_clips: AverageClips = "score"


@dataclass(frozen=True)
class Pass:
    """A named rewriting of a graph in place; `apply` returns whether it changed anything.

    The docstring of `apply` lists what is rewritten and what is not.
    """

    name: str
    summary: str
    apply: Callable[[ir.Model, Options], bool]
