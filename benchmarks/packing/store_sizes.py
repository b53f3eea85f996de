"""Sizes of clip stores, computed from the recipes: `python -m benchmarks.packing.store_sizes`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from benchmarks.measuring.report import markdown_table
from vidom.command import Parser, run
from vidom.files import human_bytes
from vidom.formats.recipe import Recipe, load_recipe, recipe_names

__all__ = ["main", "sample_bytes", "store_sizes"]

# Samples of the validation lists, by data set.
SAMPLES = {"sthv2": 24_777, "k400": 19_796}
# A 16:9 video such as 427x240, resized by mmaction2; the other pipelines resize every frame to 4:3.
FRAME_SIZES = {"mmaction2": "455x256", "paddlevideo": "341x256", "mindspore": "341x256"}
_BYTES = {"float32": 4, "uint8": 1}


def store_sizes() -> str:
    """Return, as a Markdown table, the bytes of a sample and of the validation set by recipe and kind of store."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        samples = SAMPLES.get(recipe.dataset.name)
        if samples is None:
            continue
        kinds = [sample_bytes(recipe, "float32"), sample_bytes(recipe, "uint8"), _whole_frames(recipe)]
        rows.append((name, f"{samples:,}", *(_cell(size, samples) for size in kinds)))
    return markdown_table(("recipe", "samples", "float32", "uint8", "uint8, uncropped frames"), rows)


def sample_bytes(recipe: Recipe, dtype: str) -> int:
    """Return the bytes of one sample's tensor in a store of this dtype, all views together."""
    return prod(recipe.views.sample_shape) * _BYTES[dtype]


def _whole_frames(recipe: Recipe) -> int | None:
    """Return the bytes of a sample of uncropped frames, None for recipes with one crop."""
    if recipe.views.crops == 1:
        return None
    size = FRAME_SIZES[recipe.views.pipeline]
    return sample_bytes(load_recipe(recipe.name, [f"views.frame_size={size}"]), "uint8")


def _cell(size: int | None, samples: int) -> str:
    return "–" if size is None else f"{human_bytes(size)}, {human_bytes(size * samples)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    Parser(prog="python -m benchmarks.packing.store_sizes", description=store_sizes.__doc__ or "").parse_args(
        argv
    )
    print(store_sizes())


if __name__ == "__main__":
    run(main)
