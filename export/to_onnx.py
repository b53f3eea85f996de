"""Export a checkpoint to ONNX with the recipe's head: `python export/to_onnx.py --recipe tsm_sthv2 ...`."""

from __future__ import annotations

import logging
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from export.build_record import code_digest, is_fresh, write_record
from export.deployable import INPUT_DTYPES, Deployable, InputDtype
from export.tracing import set_batch, traced
from networks.loading import Provenance, load_network
from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.files import atomic_path
from vidom.formats.aipp import aipp_of
from vidom.formats.recipe import Recipe, load_recipe

__all__ = ["OPSETS", "add_model_options", "add_per_view", "build_deployable", "main", "recipe_of", "to_onnx"]

_log = logging.getLogger(__name__)

# ATC reads opset 9 to 13 in every CANN release since 5.0.4; 12 has nothing that 11 and 13 lack here.
OPSETS = (11, 13)


def to_onnx(
    *,
    recipe: Recipe,
    checkpoint: str,
    output: Path,
    batch_size: int = 1,
    opset: int = 11,
    dynamic_batch: bool = False,
    input_dtype: InputDtype = "float32",
) -> Path:
    """`output` is an ONNX model of the recipe with the checkpoint's weights, input (batch, *sample shape).

    `recipe.one_view()` gives the model that takes a sample's views one by one, input (batch, *view shape), whose
    rows the scorer averages. With `input_dtype` "aipp" the input is [batch * frames, 3, height, width], and the
    model's metadata say how AIPP must normalise.

    The network is traced with one sample whatever `batch_size` is, since no operator of it depends on the
    batch; memory stays that of one sample. A model that is there already and was made from the same
    things is left alone. Raises UsageError for an unknown checkpoint, and for "aipp" where the recipe's samples are
    no row of pictures or the batch is left open; BadDataError for an unfit checkpoint.
    """
    if input_dtype == "aipp":
        _check_aipp(recipe, dynamic_batch=dynamic_batch)
    deployable, provenance = build_deployable(recipe, checkpoint, input_dtype=input_dtype)
    made_from = {
        "recipe": recipe.name,
        "recipe_sha256": recipe.digest,
        "checkpoint": asdict(provenance),
        "code_sha256": code_digest(),
        "batch_size": None if dynamic_batch else batch_size,
        "opset": opset,
        "input_dtype": input_dtype,
    }
    if is_fresh(output, made_from):
        _log.info(f"{output} is up to date.")
        return output
    with atomic_path(output) as temporary:
        model = traced(deployable, recipe, temporary, opset=opset, input_dtype=input_dtype)
        set_batch(model, recipe, None if dynamic_batch else batch_size, input_dtype=input_dtype)
        if input_dtype == "aipp":
            onnx.helper.set_model_props(model, aipp_of(recipe.views).metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temporary)
    write_record(output, made_from)
    return output


def build_deployable(
    recipe: Recipe, checkpoint: str, *, input_dtype: InputDtype = "float32"
) -> tuple[Deployable, Provenance]:
    """Return the module to export, in evaluation mode with the checkpoint's weights, and their origin.

    Without `checkpoint` the recipe's own is taken where it lies in this repository. Raises UsageError,
    saying where the published checkpoint is, when there is none.
    """
    checkpoint = checkpoint or _own_checkpoint(recipe)
    if not checkpoint.startswith("seeded:") and not Path(checkpoint).is_file():
        found = f"{checkpoint} does not exist" if checkpoint else "none was given"
        source = recipe.checkpoint.url or "(it is not published)"
        raise UsageError(
            f"The recipe {recipe.name} needs a {recipe.checkpoint.framework} checkpoint, but {found}. Download "
            f"{source} and pass its path with --checkpoint (make: CKPT=path). To try the pipeline without it, "
            "--checkpoint seeded:0 fills the network with deterministic stand-in weights; their scores mean nothing."
        )
    network, provenance = load_network(
        recipe.network.arch,
        recipe.network_arguments,
        framework=recipe.checkpoint.framework,
        checkpoint=checkpoint,
    )
    return Deployable(network, recipe, input_dtype=input_dtype).eval(), provenance


def _check_aipp(recipe: Recipe, *, dynamic_batch: bool) -> None:
    if dynamic_batch:
        raise UsageError(
            "--dynamic_batch contradicts --input_dtype aipp: dimension 0 of its input counts the frames of all "
            "samples, and static AIPP needs it fixed. Export a model for each batch."
        )
    height, width = recipe.views.sample_shape[-2:]
    aipp_of(recipe.views).config(name=recipe.name, width=width, height=height)
    _log.info(
        "--input_dtype aipp is experimental: it follows the vendor's documents and was never run on an NPU. Only an "
        "NPU takes its uint8 files (pack with --dtype aipp); elsewhere the model takes normalised float32."
    )


def _own_checkpoint(recipe: Recipe) -> str:
    path = Path(__file__).resolve().parents[1] / recipe.checkpoint.file
    return str(path) if path.is_file() else ""


def add_model_options(parser: Parser) -> None:
    """`parser` takes the options that name a recipe, its checkpoint and its head."""
    parser.add_argument("--recipe", required=True, help="name in om_models/ or path of a .yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry"
    )
    parser.add_argument(
        "--checkpoint", default="", help="path of the checkpoint, or seeded:N for stand-in weights"
    )
    parser.add_argument("--softmax", action=BooleanOptionalAction, help="overrides the recipe's head.softmax")
    parser.add_argument(
        "--average_clips", choices=("prob", "score"), help="overrides the recipe's head.average_clips"
    )
    parser.add_argument(
        "--input_dtype",
        choices=INPUT_DTYPES,
        default="float32",
        help="uint8: the graph normalises; aipp: an NPU's AIPP normalises, of TSM and PP-TSM only (experimental)",
    )


def add_per_view(parser: Parser) -> None:
    """`parser` takes the option whose value `recipe_of` takes as `per_view`."""
    parser.add_argument(
        "--per_view",
        action="store_true",
        help="a view in, a row out, averaged by score.py: softmax rows for average_clips prob, logits for score",
    )


def recipe_of(options: Namespace, *, per_view: bool = False) -> Recipe:
    """Return the recipe that the options of `add_model_options` describe, or that of its single views.

    Raises UsageError when averaged probabilities are asked for without softmax, and for `per_view` of samples
    that are a single view already.
    """
    overrides = list(options.set)
    if options.softmax is not None:
        overrides.append(f"head.softmax={str(options.softmax).lower()}")
    if options.average_clips:
        overrides.append(f"head.average_clips={options.average_clips}")
    recipe = load_recipe(options.recipe, overrides)
    if not recipe.head.softmax and recipe.head.average_clips == "prob" and recipe.views.clips > 1:
        raise UsageError(
            "--no-softmax contradicts average_clips prob, which averages probabilities over a sample's "
            f"{recipe.views.clips} clips. Use --average_clips score for averaged logits, or leave softmax on."
        )
    return recipe.one_view() if per_view else recipe


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.replace("x", " ").replace(",", " ").split())


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and export."""
    parser = Parser(description="Export a checkpoint to ONNX with the head of its recipe.")
    add_model_options(parser)
    add_per_view(parser)
    parser.add_argument("--batch_size", "-bs", type=int, default=1)
    parser.add_argument(
        "--shape", type=_shape, nargs="+", metavar="N", help="checked against the recipe, never needed"
    )
    parser.add_argument("--opset", type=int, choices=OPSETS, default=11)
    parser.add_argument("--dynamic_batch", action="store_true", help="leave the batch symbolic")
    parser.add_argument("--output", "-o", type=Path, required=True)
    options = parser.parse_args(argv)
    recipe = recipe_of(options, per_view=options.per_view)
    batch_size = _batch_size(options, recipe)
    path = to_onnx(
        recipe=recipe,
        checkpoint=options.checkpoint,
        output=options.output,
        batch_size=batch_size,
        opset=options.opset,
        dynamic_batch=options.dynamic_batch,
        input_dtype=options.input_dtype,
    )
    print(path)


def _batch_size(options: Any, recipe: Recipe) -> int:
    batch_size: int = options.batch_size
    if batch_size < 1:
        raise UsageError(f"--batch_size must be at least 1, found {batch_size}.")
    if options.shape:
        shape = tuple(size for part in options.shape for size in part)
        recipe.check_shape(shape)
        if batch_size not in (1, shape[0]):
            raise UsageError(f"--batch_size {batch_size} contradicts --shape, whose batch is {shape[0]}.")
        batch_size = shape[0]
    return batch_size


if __name__ == "__main__":
    run(main)
