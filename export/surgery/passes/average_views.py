"""The pass that averages the rows of a sample's clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes, resolved
from export.surgery.values import (
    add_constant,
    batch_of,
    computed_by,
    drop_unused,
    fresh_name,
    integers,
    only_use,
    opset,
    reduced_axes,
    static_dims,
)
from vidom.errors import UsageError

__all__ = ["average_views"]

# From this opset on ReduceMean takes its axes as an input.
_AXES_AS_INPUT = 18
_CLASSIFIERS = ("Gemm", "Squeeze", "ReduceMean")


@dataclass(frozen=True)
class _Rows:
    """The output of the graph, [batch * views, classes]."""

    output: ir.Value
    batch: int
    views: int
    classes: int


def average_views(model: ir.Model, options: Options) -> bool:
    """Average the rows of a sample's V clips inside the graph, so that the output is [batch, classes].

    Rewritten: the one output of a graph, when it is [V * batch, classes] with V > 1, both numbers known, and
    comes from a Softmax over the classes, from the consensus mean over segments, or from the classifier.

    1. "score": the mean of the clips' logits, then Softmax if the graph has one. Where a consensus (Reshape
       to [V * batch, segments, classes], ReduceMean over dimension 1) gives the logits, its Reshape
       becomes [batch, V * segments, classes], as in ModelZoo's published script for TSM; no node is added.
       Otherwise Reshape to [batch, V, classes] and ReduceMean are inserted.
    2. "prob": the mean of the clips' probabilities, by Reshape and ReduceMean after the Softmax, which is
       mmaction2's `average_clips='prob'`. UsageError for a graph without Softmax.
    3. "keep": nothing.

    The two averages are different classifiers; they may differ in the top-1 class. Not rewritten:
    a graph whose output is [batch, classes] already, one with several outputs, a symbolic batch.
    """
    rows = None if options.average_clips == "keep" else _rows(model)
    if rows is None:
        return False
    producer = computed_by(rows.output)
    softmax = producer if producer is not None and producer.op_type == "Softmax" else None
    if options.average_clips == "prob":
        if softmax is None:
            raise UsageError(
                f"--average_clips prob averages probabilities, but the graph has no final Softmax: its output "
                f"{rows.output.name} holds logits of {rows.views} clips per sample. Export it with --softmax, or "
                "use --average_clips score."
            )
        _average_output(model, rows)
    else:
        logits = rows.output if softmax is None else softmax.inputs[0]
        if not (logits is not None and _widen_consensus(model.graph, logits, rows)):
            _average_logits(model, softmax, rows)
    drop_unused(model)
    record_shapes(model)
    return True


def _rows(model: ir.Model) -> _Rows | None:
    if len(model.graph.outputs) != 1:
        return None
    known = resolved(model)
    output = model.graph.outputs[0]
    producer = computed_by(output)
    dims = static_dims(known[str(output.name)]) if str(output.name) in known else None
    lead = batch_of(model)
    if producer is None or dims is None or len(dims) != 2 or not lead:
        return None
    of_rows = producer.op_type in _CLASSIFIERS or _is_softmax_over_classes(producer)
    if producer.domain or not of_rows or dims[0] % lead or dims[0] <= lead:
        return None
    return _Rows(output, batch=lead, views=dims[0] // lead, classes=dims[1])


def _is_softmax_over_classes(node: ir.Node) -> bool:
    # Absent means 1 before opset 13 and -1 since; for two dimensions both are the classes.
    axis = node.attributes.get("axis")
    return node.op_type == "Softmax" and (axis is None or axis.as_int() in (1, -1))


def _widen_consensus(graph: ir.Graph, logits: ir.Value, rows: _Rows) -> bool:
    mean = logits.producer()
    if mean is not None and mean.op_type == "Squeeze" and mean.inputs[0] is not None:
        inner = mean.inputs[0]
        mean = inner.producer() if only_use(inner) is mean and reduced_axes(mean) == [1] else None
    if mean is None or mean.op_type != "ReduceMean" or reduced_axes(mean) not in ([1], [-2]):
        return False
    frames = mean.inputs[0]
    reshape = frames.producer() if frames is not None and only_use(frames) is mean else None
    target = integers(reshape.inputs[1]) if reshape is not None and reshape.op_type == "Reshape" else None
    if reshape is None or target is None or len(target) != 3 or target[1] < 1:
        return False
    if target[0] not in (-1, rows.views * rows.batch) or target[2] not in (-1, rows.classes):
        return False
    expected = np.array([rows.batch, rows.views * target[1], rows.classes], dtype=np.int64)
    reshape.replace_input_with(1, add_constant(graph, f"{reshape.outputs[0].name}_by_sample", expected))
    return True


def _average_logits(model: ir.Model, softmax: ir.Node | None, rows: _Rows) -> None:
    if softmax is None:
        _average_output(model, rows)
        return
    name = f"{rows.output.name}_logits"
    reshape, mean = _mean_over_views(model, softmax.inputs[0], rows, name=fresh_name(model.graph, name))
    model.graph.insert_before(softmax, [reshape, mean])
    softmax.replace_input_with(0, mean.outputs[0])


def _average_output(model: ir.Model, rows: _Rows) -> None:
    name = str(rows.output.name)
    rows.output.name = fresh_name(model.graph, f"{name}_by_clip")
    reshape, mean = _mean_over_views(model, rows.output, rows, name=name)
    producer = rows.output.producer()
    if producer is not None:
        model.graph.insert_after(producer, [reshape, mean])
    mean.outputs[0].type = rows.output.type
    model.graph.outputs[0] = mean.outputs[0]


def _mean_over_views(
    model: ir.Model, value: ir.Value | None, rows: _Rows, *, name: str
) -> tuple[ir.Node, ir.Node]:
    graph = model.graph
    target = np.array([rows.batch, rows.views, rows.classes], dtype=np.int64)
    views = ir.Value(name=fresh_name(graph, f"{name}_views"))
    shape = add_constant(graph, f"{views.name}_shape", target)
    reshape = ir.node("Reshape", [value, shape], outputs=[views], name=f"{views.name}_Reshape")
    inputs = [views]
    attributes: dict[str, int | list[int]] = {"keepdims": 0, "axes": [1]}
    if opset(model) >= _AXES_AS_INPUT:
        inputs.append(add_constant(graph, f"{name}_axes", np.array([1], dtype=np.int64)))
        attributes.pop("axes")
    mean = ir.node(
        "ReduceMean", inputs, attributes=attributes, outputs=[ir.Value(name=name)], name=f"{name}_ReduceMean"
    )
    return reshape, mean
