"""Repair ONNX files that MindSpore exported: `python export/repair_mindspore_onnx.py -m1 stnet.onnx -m2 fixed.onnx`.

MindSpore keeps a convolution's pads axis by axis (top, bottom, left, right) and writes them into ONNX as they
are, where the specification has all beginnings first and then all ends. ONNX Runtime refuses the graph, or
other engines pad the wrong axis. Seen in files of MindSpore 2.7 and 2.10 (`mindspore/ccsrc/.../onnx_exporter.cc`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from export.surgery.model_file import load_model, model_bytes
from vidom.command import Parser, run
from vidom.errors import BadDataError, UsageError
from vidom.files import write_bytes

__all__ = ["RepairedConv", "main", "repair_mindspore_onnx", "repaired_pads"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RepairedConv:
    """A convolution whose pads were put in order."""

    node: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def repair_mindspore_onnx(*, model: Path, output: Path) -> tuple[RepairedConv, ...]:
    """`output` holds `model` with the pads of its convolutions in ONNX's order; what was wrong is returned.

    Rewritten: the `pads` of every Conv that `repaired_pads` recognises. Not rewritten: anything else; a model
    without such a Conv is copied byte for byte, so repairing twice changes nothing.

    Raises UsageError when there is no such file or both paths are one; BadDataError when it is no valid ONNX model,
    or its shapes still contradict each other after the repair.
    """
    if model.resolve() == output.resolve():
        raise UsageError(f"-m1 and -m2 both name {model}; keep the original and name another output.")
    loaded = load_model(model)
    repaired = tuple(filter(None, (_repair(node) for node in loaded.graph)))
    content = model_bytes(loaded) if repaired else model.read_bytes()
    _check_shapes(content, model)
    write_bytes(output, content)
    return repaired


def repaired_pads(pads: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | None:
    """Return `pads` in ONNX's order if they are in MindSpore's, None if there is no proof that they are.

    The proof: read as ONNX, they pad an axis along which the kernel is 1 wide, which no padding mode does; read
    axis by axis, they pad the wider axes only, each as much before as after it. Pads in ONNX's order never
    meet both, and pads that read alike both ways need no repair.
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
    """Return the kernel's extent along each axis, () where neither attribute nor weights tell it."""
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
            f"The shapes in {model} contradict each other for another reason than MindSpore's order of pads: "
            f"{reason}. Nothing was written; export the model again."
        ) from None


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, repair, and print the output's path."""
    parser = Parser(
        description="Put the pads of convolutions in an ONNX file that MindSpore exported in order."
    )
    parser.add_argument("--model", "-m1", type=Path, required=True, help="the file as MindSpore wrote it")
    parser.add_argument("--output", "-m2", type=Path, required=True, help="where the repaired file goes")
    options = parser.parse_args(argv)
    repaired = repair_mindspore_onnx(model=options.model, output=options.output)
    for conv in repaired:
        _log.info(f"{conv.node}: pads {list(conv.before)} -> {list(conv.after)}")
    _log.info(
        f"{len(repaired)} convolutions repaired."
        if repaired
        else "No pads were wrong; the file is as it was."
    )
    print(options.output)


if __name__ == "__main__":
    run(main)
