"""Rules on shapes and element types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from export.lint.rule import Fault, Rule, Severity
from export.lint.subject import Dims, Subject, label

__all__ = ["SHAPE_RULES"]

_SHAPE_WORK = ("Shape", "Size", "ConstantOfShape", "Expand", "Range", "EyeLike")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Sum")
_PUBLISHED_RANK = 5


def _static_inputs(subject: Subject) -> Iterator[Fault]:
    """Require fixed input dimensions, except for a batch that is declared by profiles."""
    for value in subject.inputs:
        dims = subject.dims(value)
        if dims is None:
            advice = "set it with export/modify_onnx.py --input_shape."
            yield Fault(f"input {value.name}", f"it has no shape, but ATC needs one; {advice}")
            continue
        free = [axis for axis, size in enumerate(dims) if isinstance(size, str)]
        if subject.profiles and free == [0]:
            continue
        if free:
            yield Fault(
                f"input {value.name}",
                f"fixed dimensions are expected, found {_shown(dims)} (E10001 for parameter Inputs, -1); fix the batch "
                "with --batch_size or declare --dynamic_batch_size for dimension 0, which must be the only free one; "
                "export/modify_onnx.py --input_shape sets others.",
            )


def _profiles_fit(subject: Subject) -> Iterator[Fault]:
    """Require an input with a free batch where profiles are declared."""
    if subject.profiles and not any(
        isinstance(size, str) for value in subject.inputs for size in (subject.dims(value) or ())[:1]
    ):
        yield Fault(
            "graph",
            "--dynamic_batch_size needs an input whose dimension 0 is free, but all are fixed; export with "
            "--dynamic_batch.",
        )


def _zero_dimensions(subject: Subject) -> Iterator[Fault]:
    """Reject empty inputs and empty computed values."""
    for value in (*subject.inputs, *(value for node in subject.computed for value in node.outputs)):
        dims = subject.dims(value)
        if dims is not None and 0 in dims:
            yield Fault(
                str(value.name),
                f"no dimension may be 0, found {_shown(dims)}; remove what computes or joins it.",
            )


def _inner_shapes(subject: Subject) -> Iterator[Fault]:
    """Require every inner shape to follow from the shapes of the inputs."""
    free_batch = any(isinstance(size, str) for value in subject.inputs for size in subject.dims(value) or ())
    if free_batch and not subject.profiles:
        return  # reported by static-inputs already
    for node in subject.computed:
        dims = subject.dims(node.outputs[0])
        if node.op_type in _SHAPE_WORK and not node.domain:
            found = f"{node.op_type} is left after folding"
        elif not subject.profiles and (dims is None or not all(isinstance(size, int) for size in dims)):
            found = f"its shape is {'unknown' if dims is None else _shown(dims)}"
        else:
            continue
        yield Fault(
            label(node),
            f"a static shape is expected, but {found}; export with a fixed batch and fold it.",
            "error" if subject.profiles else None,
        )


def _unfolded(subject: Subject) -> Iterator[Fault]:
    """Warn about nodes that compute a shape which is already known."""
    if any(isinstance(size, str) for value in subject.inputs for size in subject.dims(value) or ()):
        return
    left = {node.outputs[0].name for node in subject.computed}
    counts = Counter(node.op_type for node in subject.of(*_SHAPE_WORK) if node.outputs[0].name not in left)
    if counts:
        found = ", ".join(f"{count} {operator}" for operator, count in sorted(counts.items()))
        yield Fault("graph", f"{found} compute known shapes; run export/modify_onnx.py, which folds them.")


def _constant_of_shape(subject: Subject) -> Iterator[Fault]:
    """Require ConstantOfShape to fill with float32, float64, int32 or int64."""
    accepted = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64)
    for node in subject.of("ConstantOfShape"):
        value = node.attributes.get("value")
        dtype = ir.DataType.FLOAT if value is None else value.as_tensor().dtype
        if dtype not in accepted:
            yield Fault(
                label(node),
                f"a fill of float or int32/int64 is expected, found {dtype}; fold it or cast after it.",
            )


def _input_types(subject: Subject) -> Iterator[Fault]:
    """Require float32 or float16 inputs."""
    for value in subject.inputs:
        if value.dtype == ir.DataType.UINT8:
            text = (
                "uint8 input is experimental: the guide lists it only with AIPP, though the parser and Cast take it; "
                "compare accuracy with a float32 build before relying on it."
            )
        elif value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            text = (
                f"float32 or float16 is expected, found {value.dtype}; published models with such inputs exist, but "
                "expect int64 to be narrowed to int32 and check the bytes of your input files."
            )
        else:
            continue
        yield Fault(f"input {value.name}", text)


def _input_rank(subject: Subject) -> Iterator[Fault]:
    """Warn about inputs of a higher rank than in published conversions with --input_format=ND."""
    for value in subject.inputs:
        rank = subject.rank(value)
        if rank is not None and rank > _PUBLISHED_RANK:
            yield Fault(
                f"input {value.name}",
                f"with --input_format=ND up to {_PUBLISHED_RANK} dimensions are published (TSM), found {rank}; if ATC "
                "rejects it, try --input_format NCHW as the published I3D guide does for 6.",
            )


def _int64_arithmetic(subject: Subject) -> Iterator[Fault]:
    """Warn about int64 arithmetic on the device; on the indices of TopK it is an error."""
    from_topk: set[ir.Value] = set()
    for node in subject.computed:
        if node.op_type == "TopK" and len(node.outputs) > 1:
            from_topk.add(node.outputs[1])
        tainted = any(value in from_topk for value in node.inputs)
        is_int64 = any(value is not None and value.dtype == ir.DataType.INT64 for value in node.inputs)
        if tainted and node.op_type != "Cast":
            from_topk.update(node.outputs)
        if node.op_type in _ARITHMETIC and not node.domain and is_int64:
            yield Fault(
                label(node),
                "int32 is expected, found int64 arithmetic"
                + (
                    " on the indices of TopK, which ATC turns to int32 while the other operand stays (E89999)"
                    if tainted
                    else " at run time"
                )
                + "; insert a Cast to int32 before it.",
                "error" if tainted else None,
            )


def _wide_types(subject: Subject) -> Iterator[Fault]:
    """Warn about float64 and reject bfloat16."""
    unsupported: tuple[tuple[ir.DataType, Severity, str], ...] = (
        (ir.DataType.DOUBLE, "warning", "no AI core computes float64; cast to float32"),
        (ir.DataType.BFLOAT16, "error", "the 310P has no bfloat16; export in float32"),
    )
    for dtype, severity, why in unsupported:
        nodes = [node for node in subject.computed if any(value.dtype == dtype for value in node.outputs)]
        if nodes:
            yield Fault(label(nodes[0]), f"{len(nodes)} node(s) compute {dtype}, and {why}.", severity)


def _shown(dims: Dims) -> str:
    return "x".join(map(str, dims)) or "scalar"


SHAPE_RULES = (
    Rule("static-inputs", "error", "DOC --input_shape; WILD E10001 [-1] for [Inputs]", _static_inputs),
    Rule("profiles-fit", "error", "DOC --dynamic_batch_size: the first dimension must be -1", _profiles_fit),
    Rule("zero-dimension", "error", "DOC ATC guide, general restrictions: dim != 0", _zero_dimensions),
    Rule(
        "inner-shape",
        "warning",
        "DOC --dynamic_batch_size: no operator whose shape changes inside the network",
        _inner_shapes,
    ),
    Rule("unfolded-shape", "warning", "DOC as inner-shape; ModelZoo's TSM guide simplifies first", _unfolded),
    Rule(
        "constant-of-shape",
        "warning",
        "SRC ConstantOfShape plugin, types that it parses",
        _constant_of_shape,
    ),
    Rule("input-type", "warning", "DOC general restrictions: FP32, FP16, UINT8 by AIPP", _input_types),
    Rule(
        "input-rank", "warning", "DOC --input_format; ModelZoo TSM (ND, 5-D) and I3D (NCHW, 6-D)", _input_rank
    ),
    Rule(
        "int64-arithmetic",
        "warning",
        "WILD E89999 `op dtype is not same, DT_INT64, DT_INT32`",
        _int64_arithmetic,
    ),
    Rule("wide-type", "warning", "DOC --precision_mode_v2; auto-optimizer's KnowledgeTypeCast", _wide_types),
)
