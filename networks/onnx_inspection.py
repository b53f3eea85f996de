"""Describe an ONNX model: inputs, outputs, operator set, operators, and the recipes whose samples it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from vidom.errors import UsageError
from vidom.files import human_bytes, sha256_file
from vidom.formats.aipp import aipp_of
from vidom.formats.onnx_file import nodes_of, read_onnx
from vidom.formats.recipe import Recipe
from vidom.wording import shown

__all__ = ["OnnxInspection", "Port", "inspect_onnx", "is_onnx"]

# The tag of the first field, ir_version, which every exporter writes first.
_FIRST_BYTE = b"\x08"
_MOST_SHOWN = 30
_TYPE_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Port:
    """An input or output; a size of the shape is a number, or a text where it is symbolic, "?" where it is unknown."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{shown(self.name, 80)}: {self.dtype} [{shown(', '.join(map(str, self.shape)))}]"


@dataclass(frozen=True)
class OnnxInspection:
    """The contents of an ONNX model.

    `opsets` are versions by domain ("" for the standard operators), `weights` counts the numbers in its initializers,
    `operators` counts nodes, those of subgraphs and functions included. `fits` are recipes with the words that describe
    the samples: "samples", "single views" or "frames for AIPP".
    """

    path: Path
    bytes: int
    sha256: str
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: int
    operators: Mapping[str, int]
    fits: tuple[tuple[str, str], ...]

    def document(self) -> dict[str, Any]:
        """Return the inspection as a JSON document."""
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "framework": "onnx",
            "producer": self.producer,
            "opsets": self.opsets,
            "inputs": [vars(port) for port in self.inputs],
            "outputs": [vars(port) for port in self.outputs],
            "weights": self.weights,
            "operators": self.operators,
            "recipes": [{"recipe": recipe, "fits": True, "takes": what} for recipe, what in self.fits],
        }

    def text(self) -> str:
        """Return the inspection as text for the terminal."""
        opsets = ", ".join(f"{shown(domain, 80)} {number}".strip() for domain, number in self.opsets.items())
        counts = _first(f"{shown(name, 80)} {count}" for name, count in self.operators.items())
        lines = [
            ("file", f"{self.path} ({human_bytes(self.bytes)})"),
            ("sha256", self.sha256),
            ("framework", "onnx" + (f", written by {shown(self.producer)}" if self.producer else "")),
            ("opset", shown(opsets)),
            *(("input", text) for text in _first(self.inputs)),
            *(("output", text) for text in _first(self.outputs)),
            ("weights", f"{self.weights:,} numbers"),
            ("operators", f"{sum(self.operators.values())} nodes: {', '.join(counts)}"),
            *(("recipe", f"{recipe}  takes its {what}") for recipe, what in self.fits),
        ]
        if not self.fits:
            lines.append(("recipe", "none: no recipe has samples and classes of these shapes"))
        return "\n".join(f"{name:<11}{value}" for name, value in lines)


def is_onnx(path: Path) -> bool:
    """Return whether the file is to be read as an ONNX model, by its name or its first byte."""
    with path.open("rb") as stream:
        return path.suffix == ".onnx" or stream.read(1) == _FIRST_BYTE


def inspect_onnx(path: Path, *, recipes: Iterable[Recipe]) -> OnnxInspection:
    """Return what the ONNX model at `path` contains, and whose samples it takes; it is not run.

    Raises BadDataError as `read_onnx` does.
    """
    model = read_onnx(path)
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    inputs = tuple(_port(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(map(_port, model.graph.output))
    names = Counter(
        f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for node in nodes_of(model)
    )
    return OnnxInspection(
        path=path,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={entry.domain: entry.version for entry in model.opset_import},
        inputs=inputs,
        outputs=outputs,
        weights=sum(weights.values()),
        operators=dict(sorted(names.items(), key=lambda item: (-item[1], item[0]))),
        fits=tuple(
            (one.name, what)
            for one in recipes
            for what, sample in _samples(one, model)
            if len(inputs) == 1
            and inputs[0].shape[1:] == sample
            and any(port.shape[1:] == (one.dataset.num_classes,) for port in outputs)
        ),
    )


def _first(items: Iterable[object]) -> list[str]:
    texts = list(map(str, items))
    rest = len(texts) - _MOST_SHOWN
    return texts[:_MOST_SHOWN] + ([f"and {rest} more"] if rest > 0 else [])


def _samples(recipe: Recipe, model: onnx.ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names of what the recipe's models take, and its shape without the batch."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        # Dimension 0 counts frames then, and AIPP normalises.
        if aipp_of(recipe.views).metadata.items() <= properties.items():
            yield "frames for AIPP", recipe.views.sample_shape[1:]
    except UsageError:
        pass
    yield "samples", recipe.views.sample_shape
    if recipe.views.clips > 1:
        yield "single views", recipe.views.one_view.sample_shape


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    sizes = (dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim)
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    return Port(value.name, _TYPE_NAMES.get(name, name), tuple(sizes))
