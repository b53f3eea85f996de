"""An ONNX graph of a torch module, by the exporter whose graphs ATC reads."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from networks.deployable import INPUT_NAME, Deployable, InputDtype, input_shape, output_name
from vidom.formats.recipe import Recipe

__all__ = ["set_batch", "traced"]


def traced(
    deployable: Deployable, recipe: Recipe, path: Path, *, opset: int, input_dtype: InputDtype
) -> onnx.ModelProto:
    """Return the graph of the module for one sample of the recipe; `path` is overwritten."""
    dtype = torch.uint8 if input_dtype == "uint8" else torch.float32
    sample = torch.zeros(input_shape(recipe, 1, input_dtype), dtype=dtype)
    with _quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            deployable,
            (sample,),
            path,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[output_name(recipe)],
            dynamo=False,
        )
    return onnx.load(path)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    # The TorchScript exporter is the one whose opset 11 graphs ATC reads; its deprecation warning does not help the
    # user, nor the one that sizes other than the batch become constants, which is intended.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", category=DeprecationWarning)
        warnings.simplefilter("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        yield


def set_batch(
    model: onnx.ModelProto, recipe: Recipe, batch_size: int | None, *, input_dtype: InputDtype
) -> None:
    """Write the recipe's shapes for a batch of this size into the graph, a symbolic batch for None."""
    for value, shape in (
        (model.graph.input[0], input_shape(recipe, batch_size or 1, input_dtype)),
        (model.graph.output[0], recipe.output_shape(batch_size or 1)),
    ):
        dims = value.type.tensor_type.shape
        del dims.dim[:]
        for size in shape:
            dims.dim.add().dim_value = size
        if batch_size is None:
            dims.dim[0].dim_param = "batch"
