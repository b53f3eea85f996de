"""Rules on convolutions and poolings, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from export.lint.rule import Fault, Rule
from export.lint.subject import Subject, label

__all__ = ["WINDOW_RULES"]

_MAX_WINDOW = 255
_MAX_STRIDE = 63
_EXPLICIT = "write the pads as numbers (auto_pad NOTSET)"


def _ints(node: ir.Node, name: str) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return () if attribute is None else tuple(attribute.as_ints())


def _auto_pad(node: ir.Node) -> str:
    attribute = node.attributes.get("auto_pad")
    return "NOTSET" if attribute is None else attribute.as_string()


def _spatial(subject: Subject, node: ir.Node) -> int | None:
    """Return the number of spatial dimensions of `node`'s window, None when it is unknown."""
    kernel = _ints(node, "kernel_shape")
    rank = subject.rank(node.inputs[0])
    return len(kernel) if kernel else None if rank is None else rank - 2


def _conv_rank(subject: Subject) -> Iterator[Fault]:
    """Require convolutions of one, two or three dimensions."""
    for node in subject.of("Conv", "ConvTranspose"):
        dims = _spatial(subject, node)
        if dims is not None and dims > 3:
            yield Fault(label(node), f"a window in at most 3 dimensions is expected, found {dims}; split it.")


def _conv_window(subject: Subject) -> Iterator[Fault]:
    """Require at least one of kernel_shape, pads, strides and dilations on a convolution."""
    for node in subject.of("Conv"):
        if not any(_ints(node, name) for name in ("kernel_shape", "pads", "strides", "dilations")):
            yield Fault(
                label(node),
                "kernel_shape, pads, strides or dilations is expected, found none of them; set kernel_shape.",
            )


def _conv_padding(subject: Subject) -> Iterator[Fault]:
    """Require explicit pads on convolutions; three-dimensional ones may use VALID."""
    for node in subject.of("Conv", "ConvTranspose"):
        mode = _auto_pad(node)
        dims = _spatial(subject, node)
        if mode == "NOTSET" or (mode == "VALID" and dims == 3):
            continue
        kind = f"{dims}-D convolution" if dims else "convolution"
        allowed = "NOTSET or VALID" if dims == 3 else "NOTSET"
        yield Fault(
            label(node),
            f"auto_pad {allowed} is expected of a {kind}, found {mode}, which is rejected or ignored; {_EXPLICIT}.",
        )


def _pool_rank(subject: Subject) -> Iterator[Fault]:
    """Require poolings of one, two or three dimensions."""
    for node in subject.of("MaxPool", "AveragePool"):
        dims = _spatial(subject, node)
        if dims is not None and dims > 3:
            yield Fault(label(node), f"a window in at most 3 dimensions is expected, found {dims}; split it.")


def _pool_indices(subject: Subject) -> Iterator[Fault]:
    """Require MaxPool to return values only, in the default storage order."""
    for node in subject.of("MaxPool"):
        order = node.attributes.get("storage_order")
        if len(node.outputs) > 1:
            yield Fault(label(node), "one output is expected, found Indices as the second; remove its users.")
        elif order is not None and order.as_int() != 0:
            yield Fault(label(node), "storage_order 0 is expected, found 1; remove the attribute.")


def _pool_padding(subject: Subject) -> Iterator[Fault]:
    """Require explicit pads on poolings, or a mode that ATC does not misread."""
    for node in subject.of("MaxPool", "AveragePool"):
        mode, dims = _auto_pad(node), _spatial(subject, node)
        if mode == "SAME_LOWER":
            why = "which ATC pads at the wrong end, as SAME_UPPER does"
        elif mode == "SAME_UPPER" and node.op_type == "AveragePool" and dims == 3:
            why = "which AvgPool3D ignores"
        else:
            continue
        yield Fault(label(node), f"explicit pads are expected, found auto_pad {mode}, {why}; {_EXPLICIT}.")


def _pool_dilation(subject: Subject) -> Iterator[Fault]:
    """Require a two-dimensional MaxPool without dilation."""
    for node in subject.of("MaxPool"):
        dilations = _ints(node, "dilations")
        if _spatial(subject, node) in (1, 2) and any(step != 1 for step in dilations):
            yield Fault(
                label(node),
                f"dilations of 1 are expected in 2-D, found {list(dilations)}, which MaxPoolV3 ignores; rewrite it.",
            )


def _max_pool_size(subject: Subject) -> Iterator[Fault]:
    """Warn about two-dimensional MaxPool windows beyond the limits of the AI core."""
    for node in subject.of("MaxPool"):
        kernel, strides = _ints(node, "kernel_shape"), _ints(node, "strides")
        if _spatial(subject, node) != 2:
            continue
        if prod(kernel) > _MAX_WINDOW or max(strides, default=1) > _MAX_STRIDE:
            yield Fault(
                label(node),
                f"a window up to {_MAX_WINDOW} and strides up to {_MAX_STRIDE} are expected, found {list(kernel)} and "
                f"{list(strides) or 1}: it runs on the AI CPU between two transposes; pool in two steps.",
            )


def _average_pool_size(subject: Subject) -> Iterator[Fault]:
    """Warn about AveragePool windows that are too large to be fast."""
    for node in subject.of("AveragePool"):
        kernel = _ints(node, "kernel_shape")
        if prod(kernel) > _MAX_WINDOW:
            yield Fault(
                label(node),
                f"a window up to {_MAX_WINDOW} is expected, found {list(kernel)}, which is slow; use "
                "GlobalAveragePool where it covers the complete plane, or pool in two steps.",
            )


WINDOW_RULES = (
    Rule("conv-rank", "error", "SRC Conv plugin: just 4D or 5D input, 1-D rewritten as 2-D", _conv_rank),
    Rule("conv-window", "error", "SRC Conv plugin: at least one attribute", _conv_window),
    Rule("conv-padding", "error", "SRC Conv plugin: auto_pad NOTSET, for 5D NOTSET or VALID", _conv_padding),
    Rule("pool-rank", "error", "SRC MaxPool and AveragePool plugins: only 1D/2D/3D", _pool_rank),
    Rule("pool-indices", "error", "SRC MaxPool plugin: Indices and storage_order=1 rejected", _pool_indices),
    Rule(
        "pool-padding",
        "error",
        "SRC pool plugins: SAME_LOWER read as SAME; AvgPool3D has pads only",
        _pool_padding,
    ),
    Rule(
        "pool-dilation", "error", "SRC MaxPool plugin: dilation is handed to MaxPool3D only", _pool_dilation
    ),
    Rule(
        "max-pool-size",
        "warning",
        "SRC MaxPool plugin: window > 255 or stride > 63 goes to the AI CPU",
        _max_pool_size,
    ),
    Rule(
        "average-pool-size",
        "warning",
        "SRC auto-optimizer's KnowledgeAvgPoolSplit, h*w >= 255",
        _average_pool_size,
    ),
)
