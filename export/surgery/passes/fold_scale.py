"""The pass that folds the scaling of pixels into the first convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import resolved
from export.surgery.slice_bounds import cuts_of
from export.surgery.values import (
    add_constant,
    batch_of,
    constant,
    drop_unused,
    fresh_name,
    only_use,
    static_dims,
)

__all__ = ["fold_scale"]

Scale = npt.NDArray[np.float64]
Dims = tuple[int, ...]
# The batch size assumed for a symbolic batch: with two samples, a scale that differs between samples is noticed.
_TWO_SAMPLES = 2


@dataclass(frozen=True)
class _Normalised:
    """The value `(pixels - mean) * scale`, with arrays that broadcast against it."""

    value: ir.Value
    mean: Scale
    scale: Scale


def fold_scale(model: ir.Model, options: Options) -> bool:
    """Fold the scaling of pixels into the weights of the first convolution; one Sub of the mean is left.

    Before and after, for uint8 input of TSM (W' = W * scale of the input channel)::

        uint8 x                             uint8 x
          |                                   |
        Cast(float32)                       Cast(float32)
          |                                   |
        Add(-mean)                          Sub(mean)
          |                                   |
        Div(std)                            Reshape
          |                                   |
        Reshape                             Conv(W', bias)
          |
        Conv(W, bias)

    Rewritten: Cast of uint8 to float32, followed by Add, Sub, Mul and Div with constants (pixel scale, mean, std in
    any order), then by Reshape, Transpose, Slice, Squeeze and Unsqueeze, then by Conv with constant weights W, of any
    rank and any groups. The arithmetic `(x - mean) * scale` becomes `Sub(x, mean)`, and W is multiplied by the
    scale of each of its input channels, computed in float64 and rounded to float32 once.

    This is exact except for that rounding: a convolution is linear in each input channel, its bias is unchanged, and
    the zeros of its padding represent the mean before and after, since the mean is still subtracted before it.

    Not rewritten: values with further users; a scale that differs between frames, rows or columns of one input
    channel (in StNet's layout `planes` a channel holds several colours); a scale of 0 or a non-finite one; a mean
    without a scale.
    """
    casts = [node for node in model.graph if _makes_float32(node)]
    if not casts:
        return False
    known = resolved(model, batch=batch_of(model) or _TWO_SAMPLES)
    folded = [cast for cast in casts if _is_of_pixels(cast, known) and _fold(model, cast.outputs[0], known)]
    if folded:
        drop_unused(model)
    return bool(folded)


def _makes_float32(node: ir.Node) -> bool:
    return not node.domain and node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT


def _is_of_pixels(cast: ir.Node, known: Mapping[str, ir.Value]) -> bool:
    pixels = None if cast.inputs[0] is None else known.get(str(cast.inputs[0].name))
    return pixels is not None and pixels.dtype == ir.DataType.UINT8


def _fold(model: ir.Model, numbers: ir.Value, known: Mapping[str, ir.Value]) -> bool:
    found = _normalised(numbers, known)
    value, scale = found.value, found.scale
    while (node := only_use(value)) is not None and (moved := _moved(node, value, scale, known)) is not None:
        value, scale = node.outputs[0], moved
    if node is None or (scale == 1).all() or not np.isfinite(found.mean.astype(np.float32)).all():
        return False
    weights = _scaled_weights(node, value, scale)
    if weights is None:
        return False
    node.replace_input_with(1, add_constant(model.graph, f"{node.outputs[0].name}_weights_scaled", weights))
    _subtract_mean(model.graph, numbers, found)
    return True


def _normalised(numbers: ir.Value, known: Mapping[str, ir.Value]) -> _Normalised:
    """Return the last value of the arithmetic that follows `numbers`, with its mean and scale."""
    rank = len(_dims(numbers, known) or ())
    mean, scale, value = np.zeros([1] * rank), np.ones([1] * rank), numbers
    while (node := only_use(value)) is not None and (operand := _operand(node, value, known)) is not None:
        if node.op_type in ("Add", "Sub"):
            mean = mean + operand / scale * (1 if node.op_type == "Sub" else -1)
        else:
            scale = scale * operand if node.op_type == "Mul" else scale / operand
        value = node.outputs[0]
    return _Normalised(value, mean, scale)


def _operand(node: ir.Node, value: ir.Value, known: Mapping[str, ir.Value]) -> Scale | None:
    """Return the constant operand of `node`, None if it does anything else to `value` or changes its shape."""
    if node.domain or node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    first, second = node.inputs
    if second is value and node.op_type in ("Add", "Mul"):
        first, second = second, first
    elements = constant(second) if first is value else None
    dims, after = _dims(value, known), _dims(node.outputs[0], known)
    if elements is None or dims is None or dims != after:
        return None
    wide: Scale = elements.astype(np.float64).reshape(
        [1] * (len(dims) - elements.ndim) + list(elements.shape)
    )
    usable = np.isfinite(wide).all() and (node.op_type in ("Add", "Sub") or wide.all())
    return wide if usable else None


def _moved(node: ir.Node, value: ir.Value, scale: Scale, known: Mapping[str, ir.Value]) -> Scale | None:
    """Return the scale of the output of `node` if it only moves the elements of `value`, else None."""
    before, after = _dims(value, known), _dims(node.outputs[0], known)
    if node.domain or node.inputs[0] is not value or before is None or after is None:
        return None
    if node.op_type == "Transpose":
        order = node.attributes.get("perm")
        return scale.transpose(None if order is None else list(order.as_ints()))
    if node.op_type == "Slice":
        return _sliced(node, scale, len(before))
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
        return _reshaped(scale, before, after)
    return None


def _sliced(node: ir.Node, scale: Scale, rank: int) -> Scale | None:
    cuts = cuts_of(node, rank)
    if cuts is None:
        return None
    kept = [slice(None)] * rank
    for axis, cut in cuts.items():
        if scale.shape[axis] > 1:
            # In ONNX an end below every index includes the first element of a backward Slice; in Python it is None.
            to_start = cut.step < 0 and cut.end < -scale.shape[axis]
            kept[axis] = slice(cut.start, None if to_start else cut.end, cut.step)
    return scale[tuple(kept)]


def _reshaped(scale: Scale, before: Dims, after: Dims) -> Scale | None:
    """Return `scale`, which broadcasts against `before`, as it broadcasts against the same elements as `after`.

    Dimensions are grouped into the smallest runs that hold the same elements in both shapes; a run in which the
    scale is constant keeps size 1, so that the scale of a batch stays a few numbers.
    """
    shape: list[int] = []
    spread: list[int] = []
    for old, new in _runs(before, after):
        varies = any(scale.shape[axis] > 1 for axis in old)
        spread += [before[axis] if varies else 1 for axis in old]
        shape += [after[axis] if varies else 1 for axis in new]
    return np.broadcast_to(scale, spread).reshape(shape)


def _runs(before: Dims, after: Dims) -> list[tuple[list[int], list[int]]]:
    """Return the axes of both shapes in runs, split wherever the products of the preceding dimensions are equal."""
    ahead = [list(accumulate(dims, mul)) for dims in (before, after)]
    common = sorted(set(ahead[0]) & set(ahead[1]))
    runs, left = [], [0, 0]
    for count in common:
        ends = [len(sizes) - sizes[::-1].index(count) for sizes in ahead]
        runs.append((list(range(left[0], ends[0])), list(range(left[1], ends[1]))))
        left = ends
    return runs


def _scaled_weights(conv: ir.Node, value: ir.Value, scale: Scale) -> npt.NDArray[Any] | None:
    """Return the weights times the scale of their input channels, None unless that is well-defined for `conv`."""
    weights = constant(conv.inputs[1]) if conv.op_type == "Conv" and not conv.domain else None
    if weights is None or conv.inputs[0] is not value or weights.dtype != np.float32:
        return None
    if any(
        size > 1 and (scale != scale.take([0], axis)).any()
        for axis, size in enumerate(scale.shape)
        if axis != 1
    ):
        return None
    groups = conv.attributes["group"].as_int() if "group" in conv.attributes else 1
    channels = groups * weights.shape[1]
    by_channel = np.broadcast_to(scale.take([0], 0).reshape(scale.shape[1], -1)[:, 0], channels)
    outputs, inputs, *kernel = weights.shape
    wide = weights.astype(np.float64).reshape(groups, outputs // groups, inputs, *kernel)
    product = wide * by_channel.reshape(groups, 1, inputs, *[1] * len(kernel))
    scaled: npt.NDArray[Any] = product.reshape(weights.shape).astype(np.float32)
    return scaled if np.isfinite(scaled).all() else None


def _subtract_mean(graph: ir.Graph, numbers: ir.Value, found: _Normalised) -> None:
    """Replace `found.value` by the numbers minus their mean."""
    if not found.mean.any():
        found.value.replace_all_uses_with(numbers)
        return
    mean = add_constant(graph, f"{found.value.name}_mean", found.mean.astype(np.float32))
    name = fresh_name(graph, f"{found.value.name}_centred")
    centred = ir.Value(name=name, shape=found.value.shape, type=found.value.type)
    subtract = ir.node("Sub", [numbers, mean], outputs=[centred], name=f"{name}_Sub")
    found.value.replace_all_uses_with(centred)
    cast = numbers.producer()
    if cast is not None:
        graph.insert_after(cast, subtract)


def _dims(value: ir.Value, known: Mapping[str, ir.Value]) -> Dims | None:
    found = known.get(str(value.name))
    return None if found is None else static_dims(found)
