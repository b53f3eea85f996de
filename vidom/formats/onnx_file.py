"""Reading of ONNX files that anybody may have made, in bounded time and memory, before a runtime sees them.

ONNX Runtime and the ONNX library expand model-local functions and run loops without any limit, and allocate whatever
sizes a file states. What no network of videos needs is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import uses_external_data

from vidom.bounded_reading import read_bytes
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = ["LARGEST_FILE", "LARGEST_TENSOR", "nodes_of", "parse_onnx", "read_onnx", "tensors_of"]

# The size limit of protobuf, and so of a single-file ONNX model, is 2 GiB.
LARGEST_FILE = (1 << 31) - 1
# 16 GiB of float32. The largest tensor of TSM-R50 at batch 32 with 6 views of 8 frames has 1.6e9 elements.
LARGEST_TENSOR = 1 << 32
# I3D with two views per sample has 3,000 nodes as mmaction2 exports it.
_MOST_NODES = 100_000
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
# Their number of steps is computed at run time, or is one of up to 2^63.
_REPEATING = ("Loop", "Scan")

_Function = tuple[str, str, str]


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return the model in `path`, without the weights that it keeps in other files.

    Raises BadDataError as `parse_onnx` does, and for what is not a regular file of at most 2 GiB.
    """
    return parse_onnx(read_bytes(path, what="ONNX model", max_bytes=LARGEST_FILE), origin=path)


def parse_onnx(content: bytes, *, origin: Path) -> onnx.ModelProto:
    """Return the model in `content`, which was read from `origin`, without the weights that it keeps in other files.

    Raises BadDataError for what is not an ONNX model, for loops, functions that call themselves or expand to more
    than 100,000 nodes, tensors of more than 2^32 elements or of unknown types, and for weights in other folders.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise BadDataError(
            f"{origin} is not an ONNX model: {shown(error)}. It may be truncated ({len(content)} bytes found); "
            "export or copy it again."
        ) from None
    if not model.graph.node or not model.graph.output:
        raise BadDataError(f"{origin} is not an ONNX model: it contains no graph. Export it again.")
    fault = next(_faults(model, origin.parent), None)
    if fault is not None:
        raise BadDataError(f"{origin} is not read: {fault}.")
    return model


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all weights and constants of the model, those of subgraphs and functions included."""
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes_of(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes of the model, those of subgraphs and functions included."""
    yield from _with_subgraphs(model.graph.node)
    for function in model.functions:
        yield from _with_subgraphs(function.node)


def _faults(model: onnx.ModelProto, folder: Path) -> Iterator[str]:
    """Yield why the model is refused, phrases."""
    for node in nodes_of(model):
        if _domain(node.domain) == "" and node.op_type in _REPEATING:
            yield f"its node {shown(node.name or node.op_type)} is a {node.op_type}, which may never end"
    yield from _expansion_faults(model)
    for graph in _graphs(model):
        if isinstance(graph.name, bytes):  # what protobuf returns for it
            yield f"the name {shown(graph.name)} of its graph is not UTF-8 text"
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from _type_faults(value)
        for sparse in graph.sparse_initializer:
            yield from _size_faults(f"sparse weight {shown(sparse.values.name)}", sparse.dims)
    for tensor in tensors_of(model):
        name = f"tensor {shown(tensor.name)}"
        yield from _element_faults(name, tensor.data_type)
        if any(dim < 0 for dim in tensor.dims):
            yield f"its {name} has the negative size {min(tensor.dims)}"
        yield from _size_faults(name, tensor.dims)
        if uses_external_data(tensor):
            yield from _location_faults(name, tensor, folder)


def _expansion_faults(model: onnx.ModelProto) -> Iterator[str]:
    """Yield whether functions call themselves, or the nodes are too many once every call is expanded."""
    functions: dict[_Function, list[onnx.NodeProto]] = {}
    for function in model.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if key in functions:
            yield f"its function {shown(function.name)} is defined twice"
        functions[key] = list(_with_subgraphs(function.node))
    sizes: dict[_Function, int] = {}
    waiting, open_calls = list(functions), set[_Function]()
    while waiting:
        key = waiting[-1]
        calls = [called for node in functions[key] if (called := _called(node)) in functions]
        unknown = [called for called in calls if called not in sizes]
        if key in sizes or not unknown:
            open_calls.discard(key)
            sizes.setdefault(waiting.pop(), _size(functions[key], sizes))
        elif key in open_calls:
            yield f"its function {shown(key[1])} calls itself"
            return
        else:
            open_calls.add(key)
            waiting += unknown
    if (total := _size(_with_subgraphs(model.graph.node), sizes)) > _MOST_NODES:
        yield f"it has {total} nodes once its functions are expanded, more than {_MOST_NODES}"


def _size(nodes: Iterable[onnx.NodeProto], sizes: dict[_Function, int]) -> int:
    # Beyond the limit the exact number does not matter, and might have thousands of digits.
    return min(sum(sizes.get(_called(node), 1) for node in nodes), 1 << 62)


def _called(node: onnx.NodeProto) -> _Function:
    return _domain(node.domain), node.op_type, node.overload


def _domain(name: str) -> str:
    """Return the name of a domain of operators in one spelling; the standard one has two."""
    return "" if name == "ai.onnx" else name


def _type_faults(value: onnx.ValueInfoProto) -> Iterator[str]:
    name = f"value {shown(value.name)}"
    kind = value.type.WhichOneof("value")
    if kind == "tensor_type":
        yield from _element_faults(name, value.type.tensor_type.elem_type)
        yield from _size_faults(name, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
    elif kind is not None:
        yield f"its {name} is a {kind.removesuffix('_type')}, not a tensor"


def _element_faults(name: str, data_type: int) -> Iterator[str]:
    if data_type not in onnx.TensorProto.DataType.values():
        yield f"its {name} has elements of the unknown type {data_type}"


def _size_faults(name: str, dims: Iterable[int]) -> Iterator[str]:
    # A size of 0 or less is an unknown one in what exporters state of values.
    sizes = [dim for dim in dims if dim > 0]
    if math.prod(sizes) > LARGEST_TENSOR:
        yield f"its {name} of {shown('×'.join(map(str, sizes)))} elements has more than the {LARGEST_TENSOR} allowed"


def _location_faults(name: str, tensor: onnx.TensorProto, folder: Path) -> Iterator[str]:
    location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    # A Windows path is harmless here but not where the model may be used next.
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    too_long = len(location) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts)
    if too_long or "\0" in location:
        yield f"the weights of its {name} are in {shown(location)!r}, which is no name of a file"
        return
    home = folder.resolve()
    if not location or absolute or ".." in parts or not (home / location).resolve().is_relative_to(home):
        yield (
            f"the weights of its {name} are in {shown(location)!r}, outside its own folder {home}; move them next to "
            "the model or save them inside it"
        )
    elif not (home / location).is_file():
        yield f"the file {shown(location)!r} with the weights of its {name} is not next to it"


def _with_subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _with_subgraphs(graph.node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield model.graph
    for node in nodes_of(model):
        yield from _subgraphs(node)
