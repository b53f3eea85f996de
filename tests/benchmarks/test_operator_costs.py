"""What operators cost, against sums worked out by hand, torch's own counter, and the totals of known networks."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.roofline.operator_costs import OpCost, op_costs
from export.surgery.model_file import load_model
from export.to_onnx import ToOnnxOptions, to_onnx
from networks.deployable import build_deployable
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe


def costs_of(text: str, *, batch: int | None = None) -> tuple[OpCost, ...]:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> g {text}')
    return op_costs(ir.from_proto(model), batch=batch)


@pytest.mark.parametrize(
    ("shapes", "attributes", "kind", "multiply_adds", "read", "written"),
    [
        # 5 output lengths, 6 channels, each the sum of 4 channels by 3 taps.
        (("2,4,5", "6,4,3", "2,6,5"), "pads=[1,1]", "Conv 3", 2 * 6 * 5 * 4 * 3, 4 * (40 + 72), 4 * 60),
        # Stride 2 halves the image; two groups halve the terms of each output.
        (
            ("1,4,8,8", "6,2,3,3", "1,6,4,4"),
            "pads=[1,1,1,1], strides=[2,2], group=2",
            "Conv 3×3, 2 groups",
            6 * 16 * 2 * 9,
            4 * (256 + 108),
            4 * 96,
        ),
        (("1,3,4,6,6", "2,3,1,1,1", "1,2,4,6,6"), "", "Conv 1×1×1", 2 * 144 * 3, 4 * (432 + 6), 4 * 288),
    ],
)
def test_convolutions(
    shapes: tuple[str, str, str], attributes: str, kind: str, multiply_adds: int, read: int, written: int
) -> None:
    x, w, y = (f"float[{shape}]" for shape in shapes)
    (cost,) = costs_of(f"({x} x, {w} w) => ({y} y) {{ y = Conv<{attributes}>(x, w) }}".replace("<>", ""))
    assert (cost.kind, cost.multiply_adds, cost.read_bytes, cost.written_bytes) == (
        kind, multiply_adds, read, written,
    )  # fmt: skip
    assert (cost.flops, cost.moved_bytes) == (2 * multiply_adds, read + written)


def test_matrices_and_what_moves() -> None:
    costs = costs_of(
        """(float[5,7] a, float[3,5] b, float[3] c, float16[2,4,6] d, float16[6,8] w)
        => (float[1,3] out, float16[2,4,6] z)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[2] flat = {-1, 6}> {
            gemm = Gemm<transA=1, transB=1>(a, b, c)
            part = Slice(gemm, zero, two, zero)
            rows = Reshape(d, flat)
            product = MatMul(rows, w)
            twice = Add(part, part)
            out = ReduceSum(twice, zero)
            z = Relu(d)
        }""".replace("float[3] out", "float[1,3] out")
    )
    found = [(cost.kind, cost.multiply_adds, cost.read_bytes, cost.written_bytes) for cost in costs]
    assert found == [
        ("Gemm and MatMul", 7 * 3 * 5, 4 * (35 + 15 + 3), 4 * 21),
        ("moving", 0, 4 * 6, 4 * 6),  # two of seven rows, not what lies beyond
        ("free", 0, 0, 0),
        ("Gemm and MatMul", 8 * 8 * 6, 2 * (48 + 48), 2 * 64),
        ("elementwise", 0, 4 * 6, 4 * 6),  # one tensor, taken twice, read once
        ("pooling and reduction", 0, 4 * 6 + 8, 4 * 3),
        ("elementwise", 0, 2 * 48, 2 * 48),
    ]


def test_a_symbolic_batch_is_replaced() -> None:
    text = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
    assert costs_of(text, batch=3)[0].moved_bytes == 2 * 4 * 12
    with pytest.raises(BadDataError, match="give its size"):
        costs_of(text)


def test_subgraphs_are_rejected() -> None:
    with pytest.raises(BadDataError, match="subgraphs"):
        costs_of("""(bool c, float[2] x) => (float[2] y) {
            y = If(c) <then_branch = a () => (float[2] p) { p = Relu(x) },
                       else_branch = b () => (float[2] q) { q = Neg(x) }>
        }""")


class Drawing:
    """Convolutions one after the other, their weights inputs so that they take no memory."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])]

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        number = len(self.nodes)
        shape = [channels[1], channels[0], kernel, kernel]
        self.inputs.append(helper.make_tensor_value_info(f"w{number}", TensorProto.FLOAT, shape))
        pads = [kernel // 2] * 4
        self.nodes.append(
            helper.make_node("Conv", [x, f"w{number}"], [f"v{number}"], pads=pads, strides=[stride] * 2)
        )
        return f"v{number}"

    def op(self, op: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"v{len(self.nodes)}"], **attributes))
        return f"v{len(self.nodes) - 1}"


def resnet50(*, stride_in_3x3: bool) -> ir.Model:
    """K. He et al., Deep Residual Learning, table 1; torchvision moves the stride into the 3 × 3 convolution."""
    net = Drawing()
    x = net.op("MaxPool", net.conv("x", (3, 64), 7, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            first, second = (1, stride) if stride_in_3x3 else (stride, 1)
            main = net.conv(net.conv(x, (channels, width), 1, first), (width, width), 3, second)
            main = net.conv(main, (width, 4 * width), 1)
            x = net.op("Add", main, net.conv(x, (channels, 4 * width), 1, stride) if not block else x)
            channels = 4 * width
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.inputs.append(helper.make_tensor_value_info("fc", TensorProto.FLOAT, [channels, 1000]))
    y = net.op("Gemm", x, "fc")
    output = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 1000])
    graph = helper.make_graph(net.nodes, "resnet50", net.inputs, [output])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


@pytest.mark.parametrize(("stride_in_3x3", "billions"), [(False, 3.858), (True, 4.089)])
def test_resnet_50(stride_in_3x3: bool, billions: float) -> None:
    """The paper says 3.8 billion; torchvision's documentation 4.09 for its own."""
    costs = op_costs(resnet50(stride_in_3x3=stride_in_3x3))
    assert sum(cost.multiply_adds for cost in costs) / 1e9 == pytest.approx(billions, abs=0.0005)
    assert sum(cost.kind.startswith("Conv") for cost in costs) == 53


@pytest.mark.slow
def test_an_exported_network_costs_what_torch_counts(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny_recipe))
    model = to_onnx(
        ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "tiny.onnx", batch_size=2)
    )
    network, _ = build_deployable(recipe, "seeded:0")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(recipe.input_shape(2)))
    assert sum(cost.flops for cost in op_costs(load_model(model))) == counter.get_total_flops()
