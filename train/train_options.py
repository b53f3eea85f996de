"""The options of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.devices import Cards, parse_cards
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option

__all__ = ["RunOptions", "TrainOptions"]

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a network is trained, whatever the clips."""

    recipe: Recipe = recipe_option()
    output_dir: Path = option("folder of the run; the same command continues a run that was ended")
    checkpoint: str | None = option(
        "weights to begin from (default: the recipe's train.pretrained; without any, random ones)",
        default=None,
    )
    cards: Cards = option(
        "`8` for the first eight, or `0,1,5`; processes on a CPU", default=(0,), parse=parse_cards
    )
    precision: Precision | None = option("arithmetic (default: the recipe's train.precision)", default=None)
    steps: int | None = option("end after so many steps, without validation: a performance run", default=None)
    seed: int = option("of weights, order and augmentation", default=0)
    workers: int | None = option(
        "processes that decode for each card (default: its share of cores)", default=None
    )
    on_bad: Literal["fail", "skip"] = option("what an unreadable sample does", default="fail")
    resume: bool = option("refuse to begin anew where there is nothing to continue", default=False)

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps must be at least 1, found {self.steps}.")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Train the network of a recipe as its train section says."""

    data_root: Path = option("folder that the paths of the training list are relative to")
    ann_file: Path = option("training list with `dir frames label` or `video label` per line")
    val_root: Path | None = option("the same of the validation list (default: --data_root)", default=None)
    val_ann: Path | None = option("validation list; without it nothing is validated", default=None)
