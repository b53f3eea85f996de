"""Reading and writing of ONNX files: reproducible, and safe against damaged files and foreign paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from vidom.errors import BadDataError, UsageError

__all__ = ["load_model", "model_bytes", "parse_model"]

# The size limit of protobuf, and so of a single-file ONNX model, is 2 GiB.
_LARGEST = (1 << 31) - 1


def load_model(path: Path) -> ir.Model:
    """Return the model in `path`, weights included.

    Raises UsageError for a missing file, BadDataError for an invalid ONNX model or one whose weights are in a file
    outside its own folder.
    """
    if not path.is_file():
        raise UsageError(f"There is no ONNX model {path}. Export one first with export/to_onnx.py.")
    if path.stat().st_size > _LARGEST:
        raise BadDataError(f"{path} is larger than 2 GiB, the limit of one ONNX file.")
    return parse_model(path.read_bytes(), origin=path)


def parse_model(content: bytes, *, origin: Path) -> ir.Model:
    """Return the model in `content`, which was read from `origin`.

    Raises BadDataError for an invalid ONNX model or one whose external weights are not in the folder of `origin`.
    """
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise BadDataError(
            f"{origin} is not an ONNX model: {error}. It may be truncated ({len(content)} bytes found); "
            "export or copy it again."
        ) from None
    if not proto.graph.node or not proto.graph.output:
        raise BadDataError(f"{origin} is not an ONNX model: it contains no graph. Export it again.")
    _load_external_weights(proto, origin)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = " ".join(str(error).split("\n\n==>")[0].split())
        raise BadDataError(f"{origin} is not a valid ONNX model: {reason} Export it again.") from None
    return ir.from_proto(proto)


def model_bytes(model: ir.Model) -> bytes:
    """Return `model` serialized as one ONNX file; equal models give equal bytes.

    Raises UsageError when its weights and constants are too large for one file.
    """
    tensors = (value.const_value for value in model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if size > _LARGEST:
        raise UsageError(
            f"The weights and constants of the model take {size} bytes, more than the 2 GiB of one ONNX file. "
            "Choose a smaller batch."
        )
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _load_external_weights(proto: onnx.ModelProto, origin: Path) -> None:
    external = [tensor for tensor in _tensors(proto.graph) if uses_external_data(tensor)]
    folder = origin.parent.resolve()
    for tensor in external:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        # A Windows path is harmless here but not where the model may be used next.
        parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
        if (
            not location
            or absolute
            or ".." in parts
            or not (folder / location).resolve().is_relative_to(folder)
        ):
            raise BadDataError(
                f"{origin} keeps the tensor {tensor.name} in {location!r}, outside its own folder {folder}. "
                "Such a file is not read; move the weights next to the model or save them inside it."
            )
    if not external:
        return
    try:
        load_external_data_for_model(proto, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BadDataError(f"The external weights of {origin} cannot be read: {error}") from None


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _tensors(inner)
