"""Graphs for tests of surgery: from ONNX text, from mmaction2's exporter, from ours."""

from __future__ import annotations

import io
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper

from export.surgery.pass_manager import run_passes
from export.verification.equivalence import check_equivalence
from vidom.parity import render

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
END = np.iinfo(np.int64).max


def graph(text: str, *, opset: int = 11, domains: str = "", **weights: Array) -> ir.Model:
    """Return the model of `text`, a graph in ONNX's textual form, with `weights` as initializers, checked."""
    proto = onnx.parser.parse_model(f'<ir_version: 6, opset_import: ["" : {opset}{domains}]>\n{text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def integers(*numbers: int) -> Array:
    """Return a vector of int64."""
    return np.array(numbers, dtype=np.int64)


def run(model: ir.Model, *inputs: Array) -> list[Array]:
    """Return the outputs of `model` on `inputs`, computed by ONNX Runtime without its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))  # type: ignore[no-any-return]


def noise(*shape: int, seed: int = 0) -> Array:
    """Return normal deviates, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_same(before: ir.Model, after: ir.Model, *shape: int, atol: float = 0.0) -> None:
    """Both graphs give the same on three random inputs of `shape`."""
    for seed in range(3):
        sample = noise(*shape, seed=seed)
        for expected, found in zip(run(before, sample), run(after, sample), strict=True):
            assert expected.shape == found.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def assert_equivalent(
    original: ir.Model, modified: ir.Model, *, relative: float = 1.0, **options: Any
) -> None:
    """Assert that the equivalence check passes and no difference exceeds `relative` of the largest magnitude."""
    parities = check_equivalence(original, modified, **options)
    assert parities and all(parity.passed for parity in parities), render(parities)
    assert all(parity.relative_logits is not None for parity in parities)
    found = max(max(parity.relative_logits or 0.0, parity.relative_rows) for parity in parities)
    assert found < relative, render(parities)


def equivalent(original: ir.Model, modified: ir.Model, **options: Any) -> bool:
    """Return whether the equivalence check passes."""
    return all(parity.passed for parity in check_equivalence(original, modified, **options))


def after(model: ir.Model, *passes: str) -> ir.Model:
    """Return the result of these passes on `model`."""
    return run_passes(model, passes=passes).model


def ops(model: ir.Model) -> list[str]:
    """Return the operators of `model` in the graph's order."""
    return [node.op_type for node in model.graph]


def slices_of_slices(model: ir.Model) -> list[str]:
    """Return the names of Slices whose data comes from a Slice."""
    slices = [node for node in model.graph if node.op_type == "Slice"]
    producers = [(node, node.inputs[0].producer()) for node in slices if node.inputs[0] is not None]
    return [str(node.name) for node, inner in producers if inner is not None and inner.op_type == "Slice"]


def shift_graph(*, batch: int | str, views: int, segments: int, channels: int, classes: int) -> ir.Model:
    """Return a small network in the form in which mmaction2 exports TSM, with seeded weights.

    [batch, views * segments, channels, 4] through one temporal shift with its `x - x` zeros, a classifier per
    frame, the mean over segments and Softmax to one row per view. A numeric batch is baked into a Reshape.
    The Relu before the mean makes it matter which frames were brought together.
    """
    fold = channels // 4
    flat = -1 if isinstance(batch, str) else batch * views * segments
    lead = "rows" if isinstance(batch, str) else batch * views
    text = f"""
    shift (float[{batch},{views * segments},{channels},4] x) => (float[{lead},{classes}] y) {{
      clips = Reshape(x, split)
      a = Slice(clips, zero, fold, two, one)
      b = Slice(clips, fold, folds, two, one)
      rest = Slice(clips, folds, end, two, one)
      zeros_a = Sub(a, a)
      zero_a = Slice(zeros_a, zero, one, one, one)
      next = Slice(a, one, end, one, one)
      forward = Concat<axis = 1>(next, zero_a)
      zeros_b = Sub(b, b)
      zero_b = Slice(zeros_b, zero, one, one, one)
      previous = Slice(b, zero, last, one, one)
      backward = Concat<axis = 1>(zero_b, previous)
      shifted = Concat<axis = 2>(forward, backward, rest)
      features = Reshape(shifted, flat)
      linear = MatMul(features, w)
      scores = Relu(linear)
      by_clip = Reshape(scores, head)
      mean = ReduceMean<axes = [1], keepdims = 1>(by_clip)
      logits = Squeeze<axes = [1]>(mean)
      y = Softmax<axis = 1>(logits)
    }}"""
    bounds = {"zero": 0, "one": 1, "two": 2, "last": -1, "fold": fold, "folds": 2 * fold, "end": END}
    return graph(
        text,
        w=noise(channels * 4, classes),
        split=integers(-1, segments, channels, 4),
        flat=integers(flat, channels * 4),
        head=integers(-1, segments, classes),
        **{name: integers(number) for name, number in bounds.items()},
    )


@cache
def skeleton(path: Path, *, shrink: int = 1) -> ir.Model:
    """Return an exported graph with its emptied weights filled, its frames `shrink` times smaller each way.

    Filters are He-scaled and, but for the stem's, sum to zero, so that activations stay finite and logits
    depend on the input and reach a trained network's magnitude.
    """
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.raw_data and not tensor.float_data:
            tensor.CopyFrom(_weights(tensor))
    if shrink > 1:
        _shrink(proto, shrink)
    return ir.from_proto(proto)


def _weights(tensor: onnx.TensorProto) -> onnx.TensorProto:
    dims = tuple(tensor.dims)
    sampled = np.random.default_rng(zlib.crc32(f"{tensor.name}{dims}".encode())).standard_normal(dims)
    if len(dims) == 1:
        return numpy_helper.from_array((0.1 * sampled).astype(np.float32), tensor.name)
    if dims[1] > 3:
        sampled -= sampled.mean(axis=tuple(range(1, len(dims))), keepdims=True)
    gain = 2 if len(dims) == 2 else 1
    return numpy_helper.from_array(
        (gain * sampled * np.sqrt(2 / np.prod(dims[1:]))).astype(np.float32), tensor.name
    )


def _shrink(proto: onnx.ModelProto, factor: int) -> None:
    """Frame sizes are in the input and, where the exporter baked them, in four-element Reshape targets."""
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[-2:]:
        dim.dim_value //= factor
    del proto.graph.value_info[:]
    reshaped = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    constants = {
        node.output[0]: node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"
    }
    constants.update({tensor.name: tensor for tensor in proto.graph.initializer})
    for name in sorted(reshaped & constants.keys()):
        target = numpy_helper.to_array(constants[name]).copy()
        if len(target) == 4 and target[2] == target[3]:
            target[2:] //= factor
        elif len(target) == 4:
            target[3] //= factor**2
        constants[name].CopyFrom(numpy_helper.from_array(target, name))


def torch_graph(module: torch.nn.Module, *shape: int, opset: int = 11, **options: Any) -> ir.Model:
    """Return what torch's TorchScript exporter makes of `module` for an input of `shape`."""
    import torch

    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.zeros(shape),), stream, opset_version=opset, dynamo=False, **options
        )
    return ir.from_proto(onnx.load_model_from_string(stream.getvalue()))
