"""Repair ONNX files that MindSpore exported: `python export/repair_mindspore_onnx.py -m1 stnet.onnx -m2 fixed.onnx`.

MindSpore stores a convolution's pads axis by axis (top, bottom, left, right) and writes them into ONNX unchanged,
where the specification has all begins first and then all ends. ONNX Runtime rejects the graph, or other engines pad
the wrong axis. Seen in files of MindSpore 2.7 and 2.10 (`mindspore/ccsrc/.../onnx_exporter.cc`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from export.surgery.model_file import load_model, model_bytes
from vidom.command import run
from vidom.errors import BadDataError, UsageError
from vidom.files import write_bytes
from vidom.options import option, read_options

__all__ = ["RepairOptions", "RepairedConv", "main", "repair_mindspore_onnx", "repaired_pads"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """Reorder the pads of the convolutions in an ONNX file that MindSpore exported."""

    model: Path = option("the file as MindSpore wrote it", "-m1")
    output: Path = option("the repaired file to write", "-m2")

    def __post_init__(self) -> None:
        """Raise UsageError where the output is the input."""
        if self.model.resolve() == self.output.resolve():
            raise UsageError(
                f"-m1 and -m2 both name {self.model}; keep the original and choose a different output."
            )


@dataclass(frozen=True)
class RepairedConv:
    """A convolution whose pads were reordered."""

    node: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def repair_mindspore_onnx(options: RepairOptions) -> tuple[RepairedConv, ...]:
    """Write the model with the pads of its convolutions in ONNX's order; return the convolutions that were wrong.

    Rewritten: the `pads` of every Conv that `repaired_pads` recognizes. Not rewritten: anything else; a model
    without such a Conv is copied byte for byte, so repairing twice changes nothing.

    Raises UsageError for a missing file, BadDataError for an invalid ONNX model or one whose shapes still contradict
    each other after the repair.
    """
    model, output = options.model, options.output
    loaded = load_model(model)
    repaired = tuple(filter(None, (_repair(node) for node in loaded.graph)))
    content = model_bytes(loaded) if repaired else model.read_bytes()
    _check_shapes(content, model)
    write_bytes(output, content)
    return repaired


def repaired_pads(pads: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | None:
    """Return `pads` in ONNX's order if they are certainly in MindSpore's, else None.

    They are if, read as ONNX, they pad an axis along which the kernel size is 1, which no padding mode does, and, read
    axis by axis, they pad the other axes only, equally before and after. Pads in ONNX's order never meet both
    conditions, and pads that are the same in both orders need no repair.
    """
    axes = len(kernel)
    if len(pads) != 2 * axes:
        return None
    pairs = list(zip(pads[0::2], pads[1::2], strict=True))
    stray = any(kernel[axis] == 1 and (pads[axis] or pads[axis + axes]) for axis in range(axes))
    plausible = all(
        before == after and (not before or size > 1)
        for (before, after), size in zip(pairs, kernel, strict=True)
    )
    if not stray or not plausible:
        return None
    return (*(before for before, _ in pairs), *(after for _, after in pairs))


def _repair(node: ir.Node) -> RepairedConv | None:
    if node.op_type != "Conv" or node.domain or "pads" not in node.attributes:
        return None
    before = tuple(node.attributes["pads"].as_ints())
    after = repaired_pads(before, _kernel(node))
    if after is None:
        return None
    node.attributes["pads"] = ir.AttrInt64s("pads", after)
    return RepairedConv(node.name or str(node.outputs[0].name), before, after)


def _kernel(node: ir.Node) -> tuple[int, ...]:
    """Return the kernel's extent along each axis, () if neither attribute nor weights state it."""
    if "kernel_shape" in node.attributes:
        return tuple(node.attributes["kernel_shape"].as_ints())
    weight = node.inputs[1]
    dims = tuple(weight.shape or ())[2:] if weight is not None else ()
    sizes = tuple(int(size) for size in dims if isinstance(size, int))
    return sizes if len(sizes) == len(dims) else ()


def _check_shapes(content: bytes, model: Path) -> None:
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:400]
        raise BadDataError(
            f"The shapes in {model} contradict each other, but not because of MindSpore's order of pads: "
            f"{reason}. Nothing was written; export the model again."
        ) from None


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, repair the file and print the output's path."""
    options = read_options(RepairOptions, argv, prog="repair_mindspore_onnx.py")
    repaired = repair_mindspore_onnx(options)
    for conv in repaired:
        _log.info(f"{conv.node}: pads {list(conv.before)} -> {list(conv.after)}")
    _log.info(
        f"{len(repaired)} convolutions repaired."
        if repaired
        else "No pads were wrong; the file was copied unchanged."
    )
    print(options.output)


if __name__ == "__main__":
    run(main)
