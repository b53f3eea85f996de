"""Name the most likely classes of one video: `python -m infer.predict --recipe R --model M.onnx --video V.mp4`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infer.engines.choice import choose_engine
from infer.engines.engine_options import EngineOptions, float32_reference
from infer.engines.engine_request import EngineRequest, engine_option
from infer.engines.open import open_engine
from infer.one_video import Scores, sample_scores
from infer.precision_check import compare_rows
from preprocess.sources.video import VideoFile
from vidom.command import run
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options

__all__ = ["PredictOptions", "Prediction", "main", "predict"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Name the most likely classes of one video."""

    recipe: Recipe = recipe_option()
    model: Path | None = option(
        "model built from the recipe: the .onnx file, or for the NPU the .om; none for --engine torch",
        default=None,
    )
    video: Path = option("the video file")
    top: int = option("number of classes to print", default=5)
    engine: EngineRequest = engine_option()

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top must be at least 1, found {self.top}.")


@dataclass(frozen=True)
class Prediction:
    """One class of a video's answer and the model's score for it."""

    class_id: int
    name: str
    score: float


def predict(options: PredictOptions) -> tuple[Prediction, ...]:
    """Return the `top` classes of the video by descending score, the lower class first where scores are equal.

    The model sees the recipe's complete view plan. For bf16, the scores are computed in f32 too and the differences
    are logged. Raises UsageError when the model does not fit the recipe, BadDataError for an unreadable video or
    model, UnavailableError as the engine does.
    """
    names = options.recipe.labels()
    choice = choose_engine(options.model, options.engine, options.recipe)
    _log.info(f"engine {choice.options.name}: {choice.reason}")

    def scores_by(engine: EngineOptions) -> Scores:
        opened = open_engine(choice.model, engine, batch_size=1)
        return sample_scores(opened, VideoFile(options.video), options.recipe)

    scores = scores_by(choice.options)
    if reference := float32_reference(choice.options):
        _log_difference(scores_by(reference), scores)
    best = np.argsort(-scores, kind="stable")[: options.top]
    return tuple(Prediction(int(index), names[index], float(scores[index])) for index in best)


def _log_difference(reference: Scores, measured: Scores) -> None:
    flips, changes, largest = compare_rows(reference[None], measured[None])
    _log.info(
        f"bf16 against f32: top-1 {'changed' if flips else 'unchanged'}, top-5 "
        f"{'changed' if changes else 'unchanged'}, largest difference {largest:.2e}."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and print one line for each of the best classes."""
    found = predict(read_options(PredictOptions, argv, prog="python -m infer.predict"))
    for rank, one in enumerate(found, 1):
        print(f"{rank:>2}  {one.score:.4f}  {one.class_id:>4}  {one.name}")


if __name__ == "__main__":
    run(main)
