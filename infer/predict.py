"""Name the most likely classes of videos: `python -m infer.predict --recipe R --model M.onnx --video V.mp4`.

With a folder as `--video`, of all its videos, as with `predict.py` of PaddleVideo. `--output` writes the
answers to a file as well: .csv has a row per video and class, .json a list of videos with their classes.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infer.engines.choice import choose_engine
from infer.engines.engine_options import float32_reference
from infer.engines.engine_request import EngineRequest, engine_option
from infer.engines.open import open_engine
from infer.one_video import Scores, sample_scores
from infer.precision_check import compare_rows
from preprocess.sources.video import VideoFile
from vidom.command import run
from vidom.errors import BadDataError, UsageError
from vidom.files import write_bytes, write_json
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options
from vidom.wording import shown, some

__all__ = ["PredictOptions", "Prediction", "main", "predict", "predict_folder"]

_log = logging.getLogger(__name__)

_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_OUTPUTS = (".csv", ".json")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Name the most likely classes of a video, or of each video in a folder."""

    recipe: Recipe = recipe_option()
    model: Path | None = option(
        "model built from the recipe: the .onnx file, or for the NPU the .om; none for --engine torch",
        default=None,
    )
    video: Path = option("the video file, or a folder of videos")
    top: int = option("number of classes to print", default=5)
    output: Path | None = option("file for the answers: .csv or .json", default=None)
    engine: EngineRequest = engine_option()

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top must be at least 1, found {self.top}.")
        if self.output is not None and self.output.suffix not in _OUTPUTS:
            raise UsageError(f"--output must end in {' or '.join(_OUTPUTS)}, found {self.output}.")


@dataclass(frozen=True)
class Prediction:
    """One class of a video's answer and the model's score for it."""

    class_id: int
    name: str
    score: float


Answer = tuple[Prediction, ...]


def predict(options: PredictOptions) -> Answer:
    """Return the `top` classes of the video by descending score, the lower class first where scores are equal.

    The model sees the recipe's complete view plan. For bf16, the scores are computed in f32 too and the differences
    are logged. Raises UsageError when the model does not fit the recipe, BadDataError for an unreadable video or
    model, UnavailableError as the engine does.
    """
    return _predictor(options)(options.video)


def predict_folder(options: PredictOptions) -> tuple[dict[str, Answer], dict[str, str]]:
    """Return the answers of `predict` for the videos in the folder `video` by file name, and why others have none.

    The videos are the files with the suffix of one, in the order of their names; folders in it are not searched.
    Raises UsageError for a folder without videos, otherwise as `predict` does, except for an unreadable video.
    """
    videos = sorted(
        path for path in options.video.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    if not videos:
        raise UsageError(
            f"The folder {options.video} has no videos: expected files that end in {', '.join(_SUFFIXES)}. Folders in "
            "it are not searched; name the one that holds the videos."
        )
    answer_of = _predictor(options)
    answers, failures = {}, {}
    for video in videos:
        try:
            answers[video.name] = answer_of(video)
        except BadDataError as error:
            failures[video.name] = str(error)
            _log.warning(str(error))
    return answers, failures


def _predictor(options: PredictOptions) -> Callable[[Path], Answer]:
    names = options.recipe.labels()
    choice = choose_engine(options.model, options.engine, options.recipe)
    _log.info(f"engine {choice.options.name}: {choice.reason}")
    engine = open_engine(choice.model, choice.options, batch_size=1)
    precise = float32_reference(choice.options)
    reference = open_engine(choice.model, precise, batch_size=1) if precise else None

    def answer(video: Path) -> Answer:
        source = VideoFile(video)
        scores = sample_scores(engine, source, options.recipe)
        if reference is not None:
            _log_difference(sample_scores(reference, source, options.recipe), scores)
        best = np.argsort(-scores, kind="stable")[: options.top]
        return tuple(Prediction(int(index), names[index], float(scores[index])) for index in best)

    return answer


def _log_difference(reference: Scores, measured: Scores) -> None:
    flips, changes, largest = compare_rows(reference[None], measured[None])
    _log.info(
        f"bf16 against f32: top-1 {'changed' if flips else 'unchanged'}, top-5 "
        f"{'changed' if changes else 'unchanged'}, largest difference {largest:.2e}."
    )


def _write(path: Path, answers: Mapping[str, Answer]) -> None:
    if path.suffix == ".json":
        write_json(
            path,
            [{"video": video, "classes": [asdict(one) for one in best]} for video, best in answers.items()],
        )
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["video", "rank", "class_id", "name", "score"])
    for video, best in answers.items():
        rows.writerows([video, rank, *asdict(one).values()] for rank, one in enumerate(best, 1))
    # A name of undecodable bytes has half surrogate pairs.
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and print one line for each of the best classes, below the name of the video in a folder.

    Raises BadDataError afterwards where videos of the folder cannot be read.
    """
    options = read_options(PredictOptions, argv, prog="python -m infer.predict")
    failures: dict[str, str] = {}
    if options.video.is_dir():
        answers, failures = predict_folder(options)
    else:
        answers = {options.video.name: predict(options)}
    if options.output is not None:
        _write(options.output, answers)
    for video, best in answers.items():
        if options.video.is_dir():
            print(shown(video))
        for rank, one in enumerate(best, 1):
            print(f"{rank:>2}  {one.score:.4f}  {one.class_id:>4}  {one.name}")
    if failures:
        raise BadDataError(
            f"{len(failures)} of {len(answers) + len(failures)} videos in {options.video} have no answer, because they "
            f"cannot be read: {shown(some(failures))}. The warnings above give the reasons; the others are complete."
        )


if __name__ == "__main__":
    run(main)
