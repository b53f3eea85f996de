"""The options that select a recipe, its head and its weights, shared by the commands that build a network."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from networks.deployable import InputDtype
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe, RecipeGroup
from vidom.options import group, option

__all__ = ["ModelOptions"]


class _ExportedRecipe(RecipeGroup):
    """Builds the recipe from `--recipe`, `--set` and the options that override its head."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to the parser."""
        super().add(parser)
        parser.add_argument(
            "--softmax",
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help="overrides the recipe's head.softmax",
        )
        parser.add_argument(
            "--average_clips",
            choices=("prob", "score"),
            default=argparse.SUPPRESS,
            help="overrides the recipe's head.average_clips",
        )
        parser.add_argument(
            "--per_view",
            action="store_true",
            default=argparse.SUPPRESS,
            help="one row per view, averaged by score.py: softmax rows for average_clips prob, logits for score",
        )

    def build(self, given: dict[str, Any]) -> Recipe:
        """Return the recipe, or that of its single views.

        Raises UsageError when probabilities are to be averaged without softmax, and for `--per_view` of samples
        that are a single view already.
        """
        overrides = list(given.pop("set", ()))
        if "softmax" in given:
            overrides.append(f"head.softmax={str(given.pop('softmax')).lower()}")
        if "average_clips" in given:
            overrides.append(f"head.average_clips={given.pop('average_clips')}")
        given["set"] = overrides
        recipe = super().build(given)
        if not recipe.head.softmax and recipe.head.average_clips == "prob" and recipe.views.clips > 1:
            raise UsageError(
                "--no-softmax contradicts average_clips prob, which averages probabilities over a sample's "
                f"{recipe.views.clips} clips. Use --average_clips score for averaged logits, or leave softmax on."
            )
        return recipe.one_view() if given.pop("per_view", False) else recipe


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The network of a recipe with the weights of a checkpoint."""

    recipe: Recipe = group(_ExportedRecipe())
    checkpoint: str = option("path of the checkpoint, or seeded:N for seeded random weights", default="")
    ignore_meta: bool = option(
        "load a checkpoint although its own training configuration contradicts the recipe", default=False
    )
    input_dtype: InputDtype = option(
        "uint8: the graph normalises; aipp: an NPU's AIPP normalises, of TSM and PP-TSM only (experimental)",
        default="float32",
    )
