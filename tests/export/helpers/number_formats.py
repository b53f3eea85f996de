"""Graphs in other number formats than float32, made as their users make them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from surgery_graphs import noise

from vidom.formats.onnx_file import tensors_of

REDUCED = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}


def reduced(model: ir.Model, name: str) -> ir.Model:
    """Return `model` with every float32 as float16 or bfloat16, its inputs and outputs as well."""
    code, dtype = REDUCED[name]
    proto = ir.to_proto(model)
    for tensor in tensors_of(proto):
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = code
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = code
    return ir.from_proto(proto)


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, entry: ir.Value) -> None:
        shape = entry.shape.numpy() if entry.shape is not None else ()
        self._feeds: Iterator[dict[str, Any]] = iter(
            [{str(entry.name): noise(*shape, seed=seed)} for seed in range(4)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def quantized(
    model: ir.Model, folder: Path, *, per_channel: bool, activations: str, ops: list[str] | None = None
) -> ir.Model:
    """Return `model` after static quantization by ONNX Runtime, with QuantizeLinear and DequantizeLinear nodes.

    `ops` are the operators to quantize, by default all that can be.
    """
    before, after = folder / "float32.onnx", folder / "qdq.onnx"
    # Scales by channel came with opset 13.
    onnx.save(version_converter.convert_version(ir.to_proto(model), 17), before)
    quantize_static(
        before,
        after,
        _Samples(model.graph.inputs[0]),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=ops,
        per_channel=per_channel,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
    )
    return ir.from_proto(onnx.load(after))
