"""The graph under lint, with the facts that the rules use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from export.atc.cann_versions import Release
from export.surgery.model_file import graph_of
from export.surgery.shapes import resolved
from vidom.errors import UsageError
from vidom.formats.aipp import Aipp, read_aipp
from vidom.formats.onnx_file import read_onnx

__all__ = ["Dims", "Subject", "label", "read_subject"]

Dims = tuple[int | str, ...]
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Subject:
    """A model, its target CANN release (None: any) and the batch sizes declared as profiles.

    `imports` holds the opset entries as stored in the file; parsing the graph merges duplicate spellings.
    """

    model: ir.Model
    imports: tuple[tuple[str, int], ...]
    cann: Release | None = None
    profiles: tuple[int, ...] = ()

    @property
    def opset(self) -> int | None:
        """The version of the standard operators, None when the file has none."""
        return next((version for domain, version in self.imports if domain in _STANDARD), None)

    @property
    def aipp(self) -> Aipp | None:
        """The normalisation that AIPP must apply to the input, None for a model without AIPP."""
        return read_aipp(self.model.metadata_props, origin="the model")

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The inputs other than weights."""
        return tuple(value for value in self.model.graph.inputs if not value.is_initializer())

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes of the file, including those of subgraphs."""
        return tuple(ir.traversal.RecursiveGraphIterator(self.model.graph))

    @cached_property
    def known(self) -> Mapping[str, ir.Value]:
        """All values that remain after constant folding, by name, with type and shape."""
        return resolved(self.model)

    @cached_property
    def computed(self) -> tuple[ir.Node, ...]:
        """The nodes that remain after constants and static shapes are folded, as ATC folds them."""
        producers = (value.producer() for value in self.known.values())
        return tuple(dict.fromkeys(node for node in producers if node is not None))

    def of(self, *operators: str) -> Iterator[ir.Node]:
        """Return the nodes of the file whose operator is one of the standard `operators`."""
        return (node for node in self.nodes if node.domain in _STANDARD and node.op_type in operators)

    def dims(self, value: ir.Value | None) -> Dims | None:
        """Return the dimensions of `value`, symbolic ones as text; None when the rank is unknown."""
        found = None if value is None else self.known.get(str(value.name), value)
        if found is None or found.shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else str(dim) for dim in found.shape)

    def rank(self, value: ir.Value | None) -> int | None:
        """Return the number of dimensions of `value`, None when it is unknown."""
        dims = self.dims(value)
        return None if dims is None else len(dims)


def label(node: ir.Node) -> str:
    """Return how to find `node` in a viewer: its operator, and its name or that of its first output."""
    return f"{node.op_type} {node.name or node.outputs[0].name}"


def read_subject(
    path: Path, *, cann: Release | None = None, batch_size: int | None = None, profiles: tuple[int, ...] = ()
) -> Subject:
    """Return the model in `path` as the subject of lint, with a symbolic batch set to `batch_size` if given.

    Raises UsageError when there is no such file, BadDataError for an invalid ONNX model.
    """
    if not path.exists():
        raise UsageError(f"There is no ONNX model {path}. Export one first with export/to_onnx.py.")
    proto = read_onnx(path)
    imports = tuple((entry.domain, entry.version) for entry in proto.opset_import)
    subject = Subject(graph_of(proto, origin=path), imports, cann=cann, profiles=profiles)
    for value in subject.inputs if batch_size else ():
        dims = tuple(value.shape or ())
        if dims and not isinstance(dims[0], int):
            value.shape = ir.Shape([batch_size, *dims[1:]])
    return subject
