"""Read the weights in MindSpore's `.mindir` files from their bytes, without the graph.

    ModelProto   { GraphProto graph = 7; bool little_endian = 10; }
    GraphProto   { repeated TensorProto parameter = 3; }
    TensorProto  { repeated int64 dims = 1; int32 data_type = 2; string name = 7; string doc_string = 8;
                   bytes raw_data = 9; ExternalDataProto external_data = 12; }

(`mindspore/core/proto/mind_ir.proto`.) A parameter's name is the graph's identity, a colon and its name
in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from networks.checkpoints.mindspore_file import Array, array_of, open_mapped, sizes_in
from networks.checkpoints.opening import unreadable
from networks.checkpoints.protobuf_wire import Value, fields, grouped, number_in, text_in, view_in
from vidom.errors import BadDataError

__all__ = ["is_mindir", "read_mindir"]

# StNet's graph has some 500 nodes and 301 parameters; the limits bound the time for a hostile file.
_MAX_FIELDS = 100_000
_MAX_PARAMETERS = 20_000
_KINDS = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"},
    **{10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16", 17: "float64"},
}
# Found under 8 in files of MindSpore 2.10, where the schema has doc_string.
_NAME_FIELDS = (7, 8)


def is_mindir(path: Path | str) -> bool:
    """Return whether the file starts like a model rather than like a checkpoint, regardless of its name.

    Both are protocol buffers. A checkpoint's first field is an entry, which starts with its name's tag, a line feed; a
    model's first field is the text of a version. Raises UsageError and BadDataError as `open_mapped` does.
    """
    view = open_mapped(path)
    try:
        number, value = next(fields(view, limit=1 << 62))
    except ValueError:
        return False
    return number != 1 or (isinstance(value, memoryview) and bytes(value[:1]) not in (b"\n", b""))


def read_mindir(path: Path | str) -> dict[str, Array]:
    """Return the parameters of the model at `path` under their names, in the file's order.

    Raises UsageError when there is no file; BadDataError when it is encrypted, malformed, without parameters, has a
    name twice, or stores them in separate files (as MindSpore does above 1 GiB).
    """
    view = open_mapped(path)
    arrays: dict[str, Array] = {}
    try:
        model = grouped(view, limit=_MAX_PARAMETERS)
        if 10 in model and not number_in(model, 10):
            raise ValueError("numbers in big-endian order, which is not supported")
        graph = view_in(model, 7)
        for number, value in fields(graph, limit=_MAX_FIELDS):
            if number != 3 or isinstance(value, int):
                continue
            name, array = _parameter(value)
            if name in arrays or len(arrays) == _MAX_PARAMETERS:
                raise ValueError(f"the parameter {name[:80]!r} twice, or more than {_MAX_PARAMETERS}")
            arrays[name] = array
    except ValueError as error:
        last = next(reversed(arrays), None)
        where = f"after the parameter {last[:80]!r} it holds " if last else "it holds "
        raise unreadable(path, f"{where}{error}") from None
    if not arrays:
        raise BadDataError(
            f"The model {path} has no parameters. Export it from MindSpore with its weights, or use the .ckpt."
        )
    return arrays


def _parameter(message: memoryview) -> tuple[str, Array]:
    tensor = grouped(message, limit=64)
    name = _name(tensor)
    if 12 in tensor:
        raise ValueError(f"the parameter {name[:80]!r} in a separate file, which is not supported")
    kind = _KINDS.get(number_in(tensor, 2), f"number {number_in(tensor, 2)}")
    try:
        return name, array_of(kind, sizes_in(tensor, 1), view_in(tensor, 9))
    except ValueError as error:
        raise ValueError(f"the parameter {name[:80]!r} with {error}") from None


def _name(tensor: Mapping[int, Sequence[Value]]) -> str:
    names = [text_in(tensor, number) for number in _NAME_FIELDS if number in tensor]
    qualified = [name for name in names if ":" in name]
    name = (qualified or names or [""])[0].rpartition(":")[2]
    if not name:
        raise ValueError("a parameter without a name")
    return name
