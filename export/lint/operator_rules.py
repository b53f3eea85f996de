"""Rules on single operators other than convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator

from export.lint.rule import Fault, Rule
from export.lint.subject import Subject, label

__all__ = ["OPERATOR_RULES"]

_PADS = ("constant", "reflect")


def _reduce_noop(subject: Subject) -> Iterator[Fault]:
    """Reject ReduceMean with noop_with_empty_axes."""
    for node in subject.of("ReduceMean"):
        noop = node.attributes.get("noop_with_empty_axes")
        if noop is not None and noop.as_int() != 0:
            yield Fault(
                label(node),
                "noop_with_empty_axes 0 is expected, found 1, which ATC reads as 0 after a line in its log; set the "
                "axes, or remove the node where it reduces nothing.",
            )


def _reduce_axes(subject: Subject) -> Iterator[Fault]:
    """Require the axes of ReduceMean as an attribute."""
    for node in subject.of("ReduceMean"):
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            yield Fault(
                label(node),
                "axes are expected as an attribute, found as an input (opset 18), which the parser does not read, so "
                "that all dimensions would be reduced; export with --opset 11 or 13.",
            )


def _pad_mode(subject: Subject) -> Iterator[Fault]:
    """Warn about Pad modes other than constant and reflect."""
    for node in subject.of("Pad"):
        attribute = node.attributes.get("mode")
        mode = "constant" if attribute is None else attribute.as_string()
        if mode not in _PADS:
            yield Fault(
                label(node),
                f"mode constant or reflect is expected, found {mode}, which is passed on unchecked; rewrite it, or "
                "compare the .om with ONNX Runtime.",
            )


def _pad_axes(subject: Subject) -> Iterator[Fault]:
    """Require the pads of Pad for all dimensions."""
    for node in subject.of("Pad"):
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            yield Fault(
                label(node),
                "pads for all dimensions are expected, found pads for selected axes (opset 18), which the parser does "
                "not read; export with --opset 11 or 13.",
            )


def _slice_chain(subject: Subject) -> Iterator[Fault]:
    """Warn about a Slice of the result of a Slice."""
    chained = [
        node
        for node in subject.of("Slice")
        if (source := node.inputs[0]) is not None
        and (producer := source.producer()) is not None
        and producer.op_type == "Slice"
    ]
    if chained:
        yield Fault(
            label(chained[0]),
            f"{len(chained)} Slice(s) of the result of a Slice, each a transfer of small blocks; run "
            "export/modify_onnx.py, whose merge-slices merges them.",
        )


OPERATOR_RULES = (
    Rule("reduce-noop", "error", "SRC ReduceMean plugin: only noop_with_empty_axes=0", _reduce_noop),
    Rule(
        "reduce-axes", "error", "SRC ReduceMean plugin: axes are read from the attribute only", _reduce_axes
    ),
    Rule("pad-mode", "warning", "SRC Pad plugin: constant and reflect handled", _pad_mode),
    Rule("pad-axes", "error", "SRC Pad plugin: no axes", _pad_axes),
    Rule("slice-chain", "warning", "SRC Slice becomes StridedSliceV2, many small transfers", _slice_chain),
)
