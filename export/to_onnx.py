"""Export a checkpoint to ONNX with the recipe's head: `python export/to_onnx.py --recipe tsm_sthv2 ...`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import onnx

from export.build_record import code_digest, is_fresh, write_record
from export.model_options import ModelOptions
from export.tracing import set_batch, traced
from networks.deployable import build_deployable
from vidom.command import run
from vidom.errors import UsageError
from vidom.files import atomic_path
from vidom.folder_lock import locked_folder
from vidom.formats.aipp import aipp_of
from vidom.formats.recipe import Recipe
from vidom.options import option, read_options

__all__ = ["OPSETS", "Opset", "ToOnnxOptions", "main", "to_onnx"]

_log = logging.getLogger(__name__)

# ATC reads opset 9 to 13 in every CANN release since 5.0.4; 12 has nothing that 11 and 13 lack here.
Opset = Literal[11, 13]
OPSETS: tuple[Opset, ...] = get_args(Opset)


@dataclass(frozen=True, kw_only=True)
class ToOnnxOptions(ModelOptions):
    """Export a checkpoint to ONNX with the head of its recipe."""

    output: Path = option("the ONNX file to write", "-o")
    batch_size: int = option("batch size of the graph", "-bs", default=1)
    shape: tuple[str, ...] = option(
        "expected input shape, checked against the recipe; never needed", default=(), metavar="N"
    )
    opset: Opset = option("version of the standard operators", default=11)
    dynamic_batch: bool = option("leave the batch symbolic", default=False)

    def __post_init__(self) -> None:
        """Raise UsageError for a batch size below 1, or a shape that contradicts the recipe or the batch size."""
        if self.batch_size < 1:
            raise UsageError(f"--batch_size must be at least 1, found {self.batch_size}.")
        if not self.shape:
            return
        shape = _shape(" ".join(self.shape))
        self.recipe.check_shape(shape)
        if self.batch_size not in (1, shape[0]):
            raise UsageError(
                f"--batch_size {self.batch_size} contradicts --shape, whose batch is {shape[0]}."
            )
        object.__setattr__(self, "batch_size", shape[0])


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.replace("x", " ").replace(",", " ").split())
    except ValueError:
        raise UsageError(f"invalid --shape {text!r}; expected numbers such as 1 48 3 256 256.") from None


def to_onnx(options: ToOnnxOptions) -> Path:
    """Export the recipe's network with the checkpoint's weights and return the path of the ONNX model.

    Its input is (batch, *sample shape), or (batch, *view shape) for a recipe of single views, whose rows the scorer
    averages. With `input_dtype` "aipp" it is [batch * frames, 3, height, width], and the metadata of the model say how
    AIPP must normalise.

    The network is traced with one sample whatever `batch_size` is, since no operator of it depends on the batch;
    memory stays that of one sample. A model that is up to date is not exported again.

    Raises UsageError for an unknown checkpoint, and for "aipp" where the recipe's samples are not a sequence of images
    or the batch is symbolic; BadDataError for a checkpoint that does not fit.
    """
    recipe, output, input_dtype = options.recipe, options.output, options.input_dtype
    batch_size = None if options.dynamic_batch else options.batch_size
    if input_dtype == "aipp":
        _check_aipp(recipe, dynamic_batch=options.dynamic_batch)
    deployable, provenance = build_deployable(
        recipe, options.checkpoint, input_dtype=input_dtype, ignore_meta=options.ignore_meta
    )
    made_from = {
        "recipe": recipe.name,
        "recipe_sha256": recipe.digest,
        "checkpoint": asdict(provenance),
        "code_sha256": code_digest(),
        "batch_size": batch_size,
        "opset": options.opset,
        "input_dtype": input_dtype,
    }
    if is_fresh(output, made_from):
        _log.info(f"{output} is up to date.")
        return output
    with atomic_path(output) as temporary:
        model = traced(deployable, recipe, temporary, opset=options.opset, input_dtype=input_dtype)
        set_batch(model, recipe, batch_size, input_dtype=input_dtype)
        if input_dtype == "aipp":
            onnx.helper.set_model_props(model, aipp_of(recipe.views).metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temporary)
    write_record(output, made_from)
    return output


def _check_aipp(recipe: Recipe, *, dynamic_batch: bool) -> None:
    if dynamic_batch:
        raise UsageError(
            "--dynamic_batch contradicts --input_dtype aipp: dimension 0 of its input counts the frames of all "
            "samples, and static AIPP needs it fixed. Export a model for each batch."
        )
    height, width = recipe.views.sample_shape[-2:]
    aipp_of(recipe.views).config(name=recipe.name, width=width, height=height)
    _log.warning(
        "--input_dtype aipp is experimental: it follows the vendor's documentation and was never run on an NPU. Only "
        "an NPU takes its uint8 files (pack with --dtype aipp); elsewhere the model takes normalised float32."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, export and print the path of the model."""
    options = read_options(ToOnnxOptions, argv, prog="to_onnx.py")
    with locked_folder(options.output.parent):
        print(to_onnx(options))


if __name__ == "__main__":
    run(main)
