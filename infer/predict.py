"""Name the most likely classes of one video: `python -m infer.predict --recipe R --model M.onnx --video V.mp4`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infer.engine import OnnxRuntimeEngine
from infer.one_video import sample_scores
from preprocess.video import VideoFile
from vidom.command import Parser, run
from vidom.recipe import Recipe, load_recipe

__all__ = ["Prediction", "main", "predict"]


@dataclass(frozen=True)
class Prediction:
    """One class of a video's answer and the model's score for it."""

    class_id: int
    name: str
    score: float


def predict(*, recipe: Recipe, model: Path, video: Path, top: int = 5) -> tuple[Prediction, ...]:
    """Return the `top` classes of the video by falling score, the lower class first where scores are equal.

    The video goes through the recipe's whole view plan. A model built for a larger batch is fed copies.
    Raises UsageError when the model takes other samples than the recipe makes, BadData for an unreadable
    video or model.
    """
    engine = OnnxRuntimeEngine(model, batch_size=1)
    names = recipe.labels()
    scores = sample_scores(engine, VideoFile(video), recipe)
    best = np.argsort(-scores, kind="stable")[:top]
    return tuple(Prediction(int(index), names[index], float(scores[index])) for index in best)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and print one line for each of the best classes."""
    parser = Parser(description="Name the most likely classes of one video.")
    parser.add_argument("--recipe", required=True, help="name in om_models/ or path of a .yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry"
    )
    parser.add_argument("--model", type=Path, required=True, help="ONNX model built from the recipe")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--top", type=int, default=5, help="how many classes")
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe, options.set)
    for rank, one in enumerate(
        predict(recipe=recipe, model=options.model, video=options.video, top=options.top), 1
    ):
        print(f"{rank:>2}  {one.score:.4f}  {one.class_id:>4}  {one.name}")


if __name__ == "__main__":
    run(main)
