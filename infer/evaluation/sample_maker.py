"""From a job to its rows of a batch: what every process that decodes, here or elsewhere, does the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infer.engines.tensor_specs import TensorSpec
from infer.evaluation.jobs import Job
from preprocess.tensors.pixels import Dtype, Table
from preprocess.tensors.samples import make_sample, open_source
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe

__all__ = ["SampleMaker", "check_fit", "sample_dtype"]


@dataclass(frozen=True)
class SampleMaker:
    """Makes the tensors of samples; picklable, so that any process can have it."""

    recipe: Recipe
    data_root: Path
    dtype: Dtype

    def fill(self, job: Job, out: Table) -> str | None:
        """`out`, of the recipe's sample_shape, holds the job's tensor, or zeros and the reason is returned."""
        source = open_source(
            job.annotation,
            data_root=self.data_root,
            pipeline=self.recipe.views.pipeline,
            template=self.recipe.dataset.frame_template,
        )
        try:
            make_sample(source, self.recipe.views, dtype=self.dtype, out=out)
        except BadDataError as error:
            out[:] = 0
            return str(error)
        return None


def sample_dtype(spec: TensorSpec) -> Dtype:
    """Return the dtype that samples are made in for a model's input: its own. `check_fit` has seen it."""
    return "uint8" if spec.dtype == "uint8" else "float32"


def check_fit(
    model: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], recipe: Recipe
) -> None:
    """A model with these tensors takes the recipe's samples and gives a row of scores for each, else UsageError."""
    spec, wanted = inputs[0], recipe.views.sample_shape
    if len(inputs) != 1 or spec.dtype not in ("float32", "uint8"):
        told = ", ".join(f"{spec.name!r}, {spec}" for spec in inputs)
        raise UsageError(f"{model} takes {told}; evaluation feeds one input of float32 or uint8 samples.")
    if recipe.views.clips > 1 and spec.sample_shape == recipe.one_view().views.sample_shape:
        raise UsageError(
            f"{model} takes single views ({spec}), a sample of the recipe {recipe.name} has {recipe.views.clips}. "
            "Export the model without --per_view, or go through a clip store: make preprocess infer score VIEWS=one."
        )
    if spec.sample_shape != wanted:
        raise UsageError(
            f"{model} takes {spec}, but a sample of the recipe {recipe.name} has the shape {wanted} "
            f"({recipe.views.arithmetic}). Use the model's own recipe, or --set what it was exported with."
        )
    rows, classes = outputs[0].shape if len(outputs[0].shape) == 2 else (0, 0)
    if classes not in (-1, recipe.dataset.num_classes) or rows not in (-1, spec.rows):
        raise UsageError(
            f"{model} gives {outputs[0]}, but the recipe {recipe.name} wants {recipe.dataset.num_classes} scores for "
            f"each of {spec.rows} samples. Use the model's own recipe."
        )
