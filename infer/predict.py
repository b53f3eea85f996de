"""Name the most likely classes of one video: `python -m infer.predict --recipe R --model M.onnx --video V.mp4`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infer.engines.base import LOCAL_ENGINES, PRECISIONS, LocalEngine, Precision, open_engine
from infer.one_video import Scores, sample_scores
from infer.precision_check import compare_rows
from preprocess.sources.video import VideoFile
from vidom.command import Parser, run
from vidom.formats.recipe import Recipe, load_recipe

__all__ = ["Prediction", "main", "predict"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """One class of a video's answer and the model's score for it."""

    class_id: int
    name: str
    score: float


def predict(
    *,
    recipe: Recipe,
    model: Path,
    video: Path,
    top: int = 5,
    engine: LocalEngine = "onnxruntime",
    precision: Precision | None = None,
) -> tuple[Prediction, ...]:
    """Return the `top` classes of the video by falling score, the lower class first where scores are equal.

    The video goes through the recipe's whole view plan. A model built for a larger batch is fed copies. In bf16, the
    scores are computed in f32 too, and the log says what differs. Raises UsageError when the model takes other
    samples than the recipe makes, BadDataError for an unreadable video or model, UnavailableError as the engine does.
    """
    names = recipe.labels()

    def scores_in(form: Precision | None) -> Scores:
        opened = open_engine(model, engine=engine, batch_size=1, precision=form)
        return sample_scores(opened, VideoFile(video), recipe)

    scores = scores_in(precision)
    if precision == "bf16":
        _tell_difference(scores_in("f32"), scores)
    best = np.argsort(-scores, kind="stable")[:top]
    return tuple(Prediction(int(index), names[index], float(scores[index])) for index in best)


def _tell_difference(wanted: Scores, found: Scores) -> None:
    flips, changes, largest = compare_rows(wanted[None], found[None])
    _log.info(
        f"bf16 against f32: the first class is {'another' if flips else 'the same'}, the five first are "
        f"{'others' if changes else 'the same'}, largest difference {largest:.2e}."
    )


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
    parser.add_argument("--engine", choices=LOCAL_ENGINES, default=LOCAL_ENGINES[0])
    parser.add_argument("--precision", choices=PRECISIONS, help="of --engine openvino: f32 (default) or bf16")
    options = parser.parse_args(argv)
    found = predict(
        recipe=load_recipe(options.recipe, options.set),
        model=options.model,
        video=options.video,
        top=options.top,
        engine=options.engine,
        precision=options.precision,
    )
    for rank, one in enumerate(found, 1):
        print(f"{rank:>2}  {one.score:.4f}  {one.class_id:>4}  {one.name}")


if __name__ == "__main__":
    run(main)
