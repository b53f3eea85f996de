"""ONNX files to graphs and back: reproducible, and safe against damaged files and foreign paths."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from vidom.errors import BadDataError, UsageError
from vidom.formats.onnx_file import LARGEST_FILE, parse_onnx, read_onnx, tensors_of
from vidom.wording import shown

__all__ = ["graph_of", "load_model", "model_bytes", "parse_model"]


def load_model(path: Path) -> ir.Model:
    """Return the model in `path`, weights included.

    Raises UsageError for a missing file, BadDataError for an invalid ONNX model and what `read_onnx` refuses.
    """
    if not path.exists():
        raise UsageError(f"There is no ONNX model {path}. Export one first with export/to_onnx.py.")
    return graph_of(read_onnx(path), origin=path)


def parse_model(content: bytes, *, origin: Path) -> ir.Model:
    """Return the model in `content`, which was read from `origin`. Raises BadDataError as `load_model` does."""
    return graph_of(parse_onnx(content, origin=origin), origin=origin)


def graph_of(proto: onnx.ModelProto, *, origin: Path) -> ir.Model:
    """Return the model `proto`, which was read from `origin`, with the weights that it keeps next to it.

    Raises BadDataError for an invalid model or one whose weights are incomplete.
    """
    _load_external_weights(proto, origin)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:  # how some exporters write an unknown size
                dim.Clear()
    try:
        onnx.checker.check_model(proto)
        return ir.from_proto(proto)
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = shown(" ".join(str(error).split("\n\n==>")[0].split()), 400)
        raise BadDataError(f"{origin} is not a valid ONNX model: {reason} Export it again.") from None


def model_bytes(model: ir.Model) -> bytes:
    """Return `model` serialized as one ONNX file; equal models give equal bytes.

    Raises UsageError when its weights and constants are too large for one file.
    """
    tensors = (value.const_value for value in model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if size > LARGEST_FILE:
        raise UsageError(
            f"The weights and constants of the model take {size} bytes, more than the 2 GiB of one ONNX file. "
            "Choose a smaller batch."
        )
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _load_external_weights(proto: onnx.ModelProto, origin: Path) -> None:
    total = 0
    for tensor in filter(uses_external_data, tensors_of(proto)):
        facts = {entry.key: entry.value for entry in tensor.external_data}
        available = (origin.parent / facts["location"]).stat().st_size
        try:
            stated = math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize
            offset, length = int(facts.get("offset", 0)), int(facts.get("length", stated))
            total += length
            if length != stated or offset + length > available or total > LARGEST_FILE:
                raise ValueError(f"{stated} bytes should be at {offset} of {available}, 2 GiB in all at most")
            load_external_data_for_tensor(tensor, str(origin.parent.resolve()))
        except (OSError, ValueError, TypeError, onnx.checker.ValidationError) as error:
            raise BadDataError(
                f"The weights {shown(tensor.name)} that {origin} keeps in {shown(facts['location'])} cannot be read: "
                f"{shown(error)}. Copy both files again."
            ) from None
