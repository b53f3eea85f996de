"""Sizes of inputs that a graph leaves open, given by the user."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import onnx_ir as ir

from export.surgery.shapes import forget_shapes, record_shapes
from vidom.errors import UsageError
from vidom.wording import shown

__all__ = ["InputSizes", "parse_input_sizes", "set_input_sizes"]

InputSizes = tuple[tuple[str, tuple[int, ...]], ...]
_OPEN = -1


def parse_input_sizes(text: str) -> InputSizes:
    """Return what `NAME:1,8,3,224,224;NAME:...` states, in the order given: ATC's spelling, -1 for a size left open.

    Raises ArgumentTypeError for anything else.
    """
    found: dict[str, tuple[int, ...]] = {}
    for part in text.split(";"):
        # The names of TensorFlow's values contain a colon.
        name, _, numbers = part.rpartition(":")
        words = numbers.split(",")
        if not name or name in found or not all(word.removeprefix("-").isdecimal() for word in words):
            raise argparse.ArgumentTypeError(
                f"expected NAME:SIZE,SIZE,... as in clips:1,8,3,224,224, found {shown(text)!r}"
            )
        sizes = tuple(int(word) if len(word) < 12 else 0 for word in words)
        if not all(size > 0 or size == _OPEN for size in sizes):
            raise argparse.ArgumentTypeError(
                f"a size is at least 1, or -1 to stay open, found {shown(part)!r}"
            )
        found[name] = sizes
    return tuple(found.items())


def set_input_sizes(model: ir.Model, given: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Write the sizes into the inputs of `model`, and what follows from them into its other values.

    Raises UsageError for an input that does not exist and for a size or a number of sizes that the graph contradicts,
    BadDataError when no graph follows from the sizes.
    """
    inputs = {str(value.name): value for value in model.graph.inputs if not value.is_initializer()}
    for name, sizes in given:
        if name not in inputs:
            raise UsageError(
                f"--input_shape names the input {shown(name)}; the graph has {shown(', '.join(inputs)) or 'none'}."
            )
        stated = tuple(inputs[name].shape or ())
        if not _fits(stated, sizes):
            raise UsageError(
                f"--input_shape gives {name} the sizes {','.join(map(str, sizes))}, but the graph states "
                f"{inputs[name].shape}; only open sizes can be set (and the batch size with -bs)."
            )
        chosen = (old if size == _OPEN else size for old, size in zip(stated, sizes, strict=True))
        inputs[name].shape = ir.Shape(list(chosen))
    if given:
        forget_shapes(model)
        record_shapes(model)


def _fits(stated: Sequence[int | ir.SymbolicDim], sizes: Sequence[int]) -> bool:
    return len(stated) == len(sizes) and all(
        size in (old, _OPEN) or not isinstance(old, int) for old, size in zip(stated, sizes, strict=True)
    )
