"""What a different decoder or resizer changes: `python -m infer.drift --recipe R --video V.mp4 [--model M.onnx]`.

The pixels that a model sees depend on the decoder of the video and the resizer of its frames. This command compares
the pixels of the recipe's own pipeline with those of alternatives and, given a model, the resulting scores.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infer.engines.choice import choose_engine
from infer.engines.engine_options import TorchOptions
from infer.engines.engine_request import EngineRequest, engine_option
from infer.engines.open import open_engine
from infer.one_video import Scores, sample_scores
from preprocess.sources.video import VideoFile
from preprocess.tensors.alternatives import ALTERNATIVES, alternative, alternatives_to
from preprocess.tensors.pixels import Tensor
from preprocess.tensors.samples import make_sample
from vidom.command import run
from vidom.errors import BadDataError
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options

__all__ = ["Drift", "DriftOptions", "PixelDrift", "ScoreDrift", "drift", "main"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """Show how a video's sample changes with a different decoder or resizer.

    The columns are mean difference, largest difference and share of changed pixels (on the scale 0..255) of the
    tensor before normalisation, all views of it; with a model, built from the recipe, also the largest difference of
    the scores and what becomes of top-1.
    """

    recipe: Recipe = recipe_option()
    video: Path = option("the video file")
    other: tuple[str, ...] = option(
        "alternatives to compare with, of "
        + "; ".join(f"{name}: {what}" for name, what in ALTERNATIVES.items())
        + " (default: all that differ from the recipe's own)",
        default=(),
        metavar="NAME",
    )
    model: Path | None = option(
        "model built from the recipe: the .onnx file, or for the NPU the .om; none for --engine torch",
        default=None,
    )
    engine: EngineRequest = engine_option()
    json: bool = option("print JSON", default=False)


@dataclass(frozen=True)
class PixelDrift:
    """The difference of two samples of pixels 0..255: mean, maximum, and the share of pixels that differ."""

    mean: float
    max: int
    changed: float


@dataclass(frozen=True)
class ScoreDrift:
    """The difference of two rows of scores: its maximum, and the best class of each.

    `margin` is the difference between the usual best score and the second best.
    """

    max: float
    top1: int
    other_top1: int
    margin: float


@dataclass(frozen=True)
class Drift:
    """An alternative compared with the recipe's own pipeline; `frames` is the number its decoder found."""

    other: str
    frames: int
    usual_frames: int
    pixels: PixelDrift
    scores: ScoreDrift | None


def drift(options: DriftOptions) -> tuple[Drift, ...]:
    """Return how the video's sample changes with each alternative.

    Memory is that of two samples. Where none is named in `other`, an alternative that cannot read the video is left out
    with a warning. Raises UsageError for an unknown alternative and a model that does not fit the recipe, BadDataError
    for an unreadable video or model.
    """
    recipe, video, engine = options.recipe, options.video, None
    if options.model is not None or isinstance(options.engine, TorchOptions):
        choice = choose_engine(options.model, options.engine, recipe)
        engine = open_engine(choice.model, choice.options, batch_size=1)
    usual = VideoFile(video)
    pixels = make_sample(usual, recipe.views, dtype="uint8").tensor
    scores = None if engine is None else sample_scores(engine, usual, recipe)
    drifts = []
    for name in options.other or alternatives_to(recipe.views):
        source = alternative(name, video, recipe.views)
        try:
            changed = _pixel_drift(pixels, make_sample(source, recipe.views, dtype="uint8").tensor)
        except BadDataError as error:
            if options.other:
                raise
            _log.warning(f"{name} is left out: {error}")
            continue
        moved = None
        if engine is not None and scores is not None:
            moved = _score_drift(scores, sample_scores(engine, source, recipe))
        drifts.append(Drift(name, source.total_frames, usual.total_frames, changed, moved))
    return tuple(drifts)


def _pixel_drift(usual: Tensor, other: Tensor) -> PixelDrift:
    total = largest = changed = 0
    # Part by part: signed differences of all pixels at once would take twice the memory of a sample.
    for usual_part, other_part in zip(usual, other, strict=True):
        difference = np.abs(usual_part.astype(np.int16) - other_part.astype(np.int16))
        total += int(difference.sum(dtype=np.int64))
        largest = max(largest, int(difference.max()))
        changed += int(np.count_nonzero(difference))
    return PixelDrift(mean=total / usual.size, max=largest, changed=changed / usual.size)


def _score_drift(usual: Scores, other: Scores) -> ScoreDrift:
    ranked = np.sort(usual)[::-1]
    return ScoreDrift(
        max=float(np.abs(usual - other).max()),
        top1=int(usual.argmax()),
        other_top1=int(other.argmax()),
        margin=float(ranked[0] - ranked[1]) if len(ranked) > 1 else 0.0,
    )


def _table(drifts: Sequence[Drift], recipe: Recipe) -> str:
    lines = [f"{'instead':<14}{'frames':>8}{'mean':>8}{'max':>5}{'changed':>9}"]
    if drifts[0].scores:
        lines[0] += f"{'scores':>10}  top-1"
    for one in drifts:
        pixels = f"{one.pixels.mean:>8.3f}{one.pixels.max:>5}{100 * one.pixels.changed:>7.1f} %"
        scores = _score_text(one.scores, recipe.labels()) if one.scores else ""
        lines.append(f"{one.other:<14}{one.frames:>8}{pixels}{scores}")
    lines += ["", *(f"{one.other}: {ALTERNATIVES[one.other]}" for one in drifts)]
    return "\n".join(lines)


def _score_text(scores: ScoreDrift, names: Sequence[str]) -> str:
    usual = (
        f"{scores.max:>10.2e}  {scores.top1} ({names[scores.top1]}), {scores.margin:.3g} above the second,"
    )
    if scores.top1 == scores.other_top1:
        return f"{usual} stays"
    return f"{usual} becomes {scores.other_top1} ({names[scores.other_top1]})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each alternative, and what each is."""
    options = read_options(DriftOptions, argv, prog="python -m infer.drift")
    drifts = drift(options)
    if options.json:
        print(json.dumps([asdict(one) for one in drifts], indent=2))
    else:
        print(_table(drifts, options.recipe))


if __name__ == "__main__":
    run(main)
