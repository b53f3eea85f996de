"""What another decoder or resizer changes: `python -m infer.drift --recipe R --video V.mp4 [--model M.onnx]`.

A model sees pixels that depend on who decoded a video and who resized its frames. Here the pixels of the recipe's own
pipeline are compared with those of others, and with a model the scores that they lead to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infer.engines.base import open_engine
from infer.one_video import Scores, sample_scores
from preprocess.sources.video import VideoFile
from preprocess.tensors.alternatives import ALTERNATIVES, alternative, alternatives_to
from preprocess.tensors.pixels import Tensor
from preprocess.tensors.samples import make_sample
from vidom.command import Parser, run
from vidom.formats.recipe import Recipe, load_recipe

__all__ = ["Drift", "PixelDrift", "ScoreDrift", "drift", "main"]


@dataclass(frozen=True)
class PixelDrift:
    """How two samples of pixels 0..255 differ: mean and largest difference, and the share of unequal ones."""

    mean: float
    max: int
    changed: float


@dataclass(frozen=True)
class ScoreDrift:
    """How two rows of scores differ: the largest difference, and the best class of each.

    `margin` is how far the usual best class lies above the second.
    """

    max: float
    top1: int
    other_top1: int
    margin: float


@dataclass(frozen=True)
class Drift:
    """One alternative against the recipe's own pipeline; `frames` is how many its decoder found."""

    other: str
    frames: int
    usual_frames: int
    pixels: PixelDrift
    scores: ScoreDrift | None


def drift(
    *, recipe: Recipe, video: Path, others: Sequence[str] = (), model: Path | None = None
) -> tuple[Drift, ...]:
    """Return how the video's sample changes with each of `others`, names of ALTERNATIVES, by default all.

    Compared is the tensor before normalisation, all views of it; with `model`, built from the recipe, its scores
    too. Memory is that of two samples. Raises UsageError for an unknown name and a model that takes other samples,
    BadDataError for an unreadable video or model.
    """
    engine = None if model is None else open_engine(model, batch_size=1)
    usual = VideoFile(video)
    pixels = make_sample(usual, recipe.views, dtype="uint8").tensor
    scores = None if engine is None else sample_scores(engine, usual, recipe)
    drifts = []
    for name in others or alternatives_to(recipe.views):
        source = alternative(name, video, recipe.views)
        changed = _pixel_drift(pixels, make_sample(source, recipe.views, dtype="uint8").tensor)
        moved = None
        if engine is not None and scores is not None:
            moved = _score_drift(scores, sample_scores(engine, source, recipe))
        drifts.append(Drift(name, source.total_frames, usual.total_frames, changed, moved))
    return tuple(drifts)


def _pixel_drift(usual: Tensor, other: Tensor) -> PixelDrift:
    total = largest = changed = 0
    # Part by part: a difference needs a sign, and all of it at once twice the memory of a sample.
    for one, another in zip(usual, other, strict=True):
        difference = np.abs(one.astype(np.int16) - another.astype(np.int16))
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
        scores = _told(one.scores, recipe.labels()) if one.scores else ""
        lines.append(f"{one.other:<14}{one.frames:>8}{pixels}{scores}")
    return "\n".join(lines)


def _told(scores: ScoreDrift, names: Sequence[str]) -> str:
    usual = (
        f"{scores.max:>10.2e}  {scores.top1} ({names[scores.top1]}), {scores.margin:.3g} above the second,"
    )
    if scores.top1 == scores.other_top1:
        return f"{usual} stays"
    return f"{usual} becomes {scores.other_top1} ({names[scores.other_top1]})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each alternative."""
    listed = "; ".join(f"{name}: {what}" for name, what in ALTERNATIVES.items())
    parser = Parser(
        description="Show what another decoder or resizer changes in a video's sample: mean, largest difference "
        f"and share of changed pixels (0..255), and the largest difference of scores. {listed}."
    )
    add = parser.add_argument
    add("--recipe", required=True, help="name in om_models/ or path of a .yaml")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry")
    add("--video", type=Path, required=True)
    add("--other", nargs="+", default=[], choices=tuple(ALTERNATIVES), metavar="NAME", help="(default: all)")
    add("--model", type=Path, help="ONNX model built from the recipe")
    add("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe, options.set)
    drifts = drift(recipe=recipe, video=options.video, others=options.other, model=options.model)
    print(json.dumps([asdict(one) for one in drifts], indent=2) if options.json else _table(drifts, recipe))


if __name__ == "__main__":
    run(main)
