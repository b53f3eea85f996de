"""The graph under lint, with everything the rules ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
import onnx_ir as ir

from export.atc.cann_versions import Release
from export.surgery.model_file import parse_model
from export.surgery.shapes import resolved
from vidom.errors import UsageError
from vidom.formats.aipp import Aipp, read_aipp

__all__ = ["Dims", "Subject", "label", "read_subject"]

Dims = tuple[int | str, ...]
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Subject:
    """A model, the CANN release it is meant for (None: any) and the batches declared as profiles.

    `imports` holds the opset entries as the file has them; reading the graph merges what is spelt twice.
    """

    model: ir.Model
    imports: tuple[tuple[str, int], ...]
    cann: Release | None = None
    profiles: tuple[int, ...] = ()

    @property
    def opset(self) -> int | None:
        """The version of the standard operators, None when the file does not state one."""
        return next((version for domain, version in self.imports if domain in _STANDARD), None)

    @property
    def aipp(self) -> Aipp | None:
        """How AIPP must normalise what the model takes, None for a model that takes its input as it is."""
        return read_aipp(self.model.metadata_props, origin="the model")

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The inputs that are not weights."""
        return tuple(value for value in self.model.graph.inputs if not value.is_initializer())

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Every node as the file has it, those of subgraphs included."""
        return tuple(ir.traversal.RecursiveGraphIterator(self.model.graph))

    @cached_property
    def known(self) -> Mapping[str, ir.Value]:
        """Every value that is left after constants are folded, by name, with its type and shape."""
        return resolved(self.model)

    @cached_property
    def computed(self) -> tuple[ir.Node, ...]:
        """The nodes that are left after constants and static shapes are folded, as ATC folds them."""
        producers = (value.producer() for value in self.known.values())
        return tuple(dict.fromkeys(node for node in producers if node is not None))

    def of(self, *operators: str) -> Iterator[ir.Node]:
        """Return the nodes of the file that are one of the standard `operators`."""
        return (node for node in self.nodes if node.domain in _STANDARD and node.op_type in operators)

    def dims(self, value: ir.Value | None) -> Dims | None:
        """Return the dimensions of `value`, symbolic ones as text; None when not even their number is known."""
        found = None if value is None else self.known.get(str(value.name), value)
        if found is None or found.shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else str(dim) for dim in found.shape)

    def rank(self, value: ir.Value | None) -> int | None:
        """Return the number of dimensions of `value`, None when it is unknown."""
        dims = self.dims(value)
        return None if dims is None else len(dims)


def label(node: ir.Node) -> str:
    """Return how to find `node` in a viewer: its operator, and its name or what it computes."""
    return f"{node.op_type} {node.name or node.outputs[0].name}"


def read_subject(
    path: Path, *, cann: Release | None = None, batch_size: int | None = None, profiles: tuple[int, ...] = ()
) -> Subject:
    """Return the model in `path` as subject of lint, a symbolic batch replaced by `batch_size` if given.

    Raises UsageError when there is no such file, BadDataError when it is no valid ONNX model.
    """
    if not path.is_file():
        raise UsageError(f"There is no ONNX model {path}. Export one first with export/to_onnx.py.")
    content = path.read_bytes()
    model = parse_model(content, origin=path)
    imports = onnx.load_model_from_string(content).opset_import
    subject = Subject(
        model, tuple((entry.domain, entry.version) for entry in imports), cann=cann, profiles=profiles
    )
    for value in subject.inputs if batch_size else ():
        dims = tuple(value.shape or ())
        if dims and not isinstance(dims[0], int):
            value.shape = ir.Shape([batch_size, *dims[1:]])
    return subject
