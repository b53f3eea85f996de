"""Surgery on graphs in float16, bfloat16 and with quantized operators."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from number_formats import quantized, reduced
from shifted_networks import exported
from surgery_graphs import after, assert_equivalent, graph, integers, noise, ops, run

from export.modify_onnx import ModifyOnnxOptions, as_text, main, modify_onnx
from export.surgery.model_file import load_model, model_bytes
from export.surgery.pass_manager import run_passes
from export.surgery.pass_types import Target
from export.surgery.values import add_constant, constant
from export.verification.equivalence import check_equivalence

MODEL = Path(__file__).parents[2] / "fixtures" / "onnx" / "tsm_fp16.onnx"


def weight_types(model: ir.Model) -> set[str]:
    """Return the types of all constants but the integers, which are shapes and bounds."""
    types = {value.dtype for value in model.graph.initializers.values() if value.dtype is not None}
    return {dtype.name for dtype in types if dtype != ir.DataType.INT64}


@pytest.mark.parametrize("batch_size", ["1", "3"])
@pytest.mark.parametrize("target", ["ascend310p", "cpu"])
def test_a_network_converted_to_float16(
    target: str, batch_size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new.onnx"
    assert main(["-m1", str(MODEL), "-m2", str(output), "-bs", batch_size, "--target", target]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("PASSED\n")
    assert "float16" in shown
    assert weight_types(load_model(output)) == {"FLOAT16"}
    clips = noise(int(batch_size), 8, 3, 64, 64).astype(np.float16)
    (expected,) = zip(*(run(load_model(MODEL), clip[None]) for clip in clips), strict=True)
    (found,) = run(load_model(output), clips)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=2e-3)


@pytest.mark.parametrize("place", range(4))
def test_a_shift_that_is_wrong_by_one_channel_fails_in_float16(place: int) -> None:
    original = load_model(MODEL)
    right = run_passes(original, batch_size=1).model
    wrong = right.clone()
    # Each shift has three Slices; the first takes the channels that come from the next frame.
    cut = [node for node in wrong.graph if node.op_type == "Slice"][3 * place]
    for index in (1, 2):
        bounds = constant(cut.inputs[index])
        assert bounds is not None and bounds.shape == (2,)
        moved = add_constant(wrong.graph, f"moved_{index}", bounds + integers(0, 1))
        cut.replace_input_with(index, moved)
    assert check_equivalence(original, right)[0].passed
    (parity,) = check_equivalence(original, wrong)
    assert parity.number_format == "float16"
    assert not parity.passed


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ascend310p", "cpu"])
@pytest.mark.parametrize(("name", "bound"), [("float16", 2e-3), ("bfloat16", 1e-5)])
def test_all_passes_keep_the_number_format(name: str, bound: float, target: Target) -> None:
    # 64 channels, so that split-shift writes its matrix and its picking weights too.
    model = reduced(exported("tsm", clips=3, depth=18, width=64), name)
    surgery = run_passes(model, batch_size=2, target=target)
    assert weight_types(surgery.model) == {name.upper()}
    assert ("MatMul" in ops(surgery.model)) == (target == "cpu")
    assert_equivalent(model, surgery.model, relative=bound)


def test_bfloat16_is_compared_in_float32_and_the_output_says_so(tmp_path: Path) -> None:
    model, output = tmp_path / "bf16.onnx", tmp_path / "new.onnx"
    text = "g (bfloat16[2,4] x) => (bfloat16[2,3] y) { h = MatMul(x, w) y = Add(h, b) }"
    weights = {"w": noise(4, 3).astype(ml_dtypes.bfloat16), "b": noise(3).astype(ml_dtypes.bfloat16)}
    model.write_bytes(model_bytes(graph(text, opset=13, **weights)))
    done = modify_onnx(ModifyOnnxOptions(model=model, output=output))
    assert done.passed
    assert "bfloat16 computed as float32" in as_text(done)
    stored = onnx.load(output)
    assert {tensor.data_type for tensor in stored.graph.initializer} == {onnx.TensorProto.BFLOAT16}
    assert stored.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16


def test_a_wrong_weight_fails_in_bfloat16() -> None:
    text = "g (bfloat16[2,4] x) => (bfloat16[2,3] y) { h = Cast<to = 1>(x) k = Cast<to = 16>(h) y = MatMul(k, w) }"
    weights = noise(4, 3).astype(ml_dtypes.bfloat16)
    other = np.roll(weights, 1, axis=1)
    right, wrong = (graph(text, opset=13, w=array) for array in (weights, other))
    assert check_equivalence(right, right)[0].passed
    assert not check_equivalence(right, wrong)[0].passed


def test_zero_blocks_of_bfloat16_become_a_pad() -> None:
    text = "g (bfloat16[2,4] x) => (bfloat16[2,6] y) { y = Concat<axis = 1>(z, x) }"
    model = graph(text, opset=13, z=np.zeros((2, 2), dtype=ml_dtypes.bfloat16))
    padded = after(model, "concat-zeros-to-pad")
    assert ops(padded) == ["Pad"]
    assert_equivalent(model, padded, relative=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_channel", "activations", "quantize", "target"),
    [
        (True, "QUInt8", None, "ascend310p"),
        (False, "QInt8", ["Conv", "Gemm"], "cpu"),
    ],
)
def test_quantized_networks(
    per_channel: bool, activations: str, quantize: list[str] | None, target: Target, tmp_path: Path
) -> None:
    plain = exported("tsm", clips=2, depth=18, width=8)
    model = quantized(plain, tmp_path, per_channel=per_channel, activations=activations, ops=quantize)
    surgery = run_passes(model, batch_size=2, target=target)
    assert surgery.modified
    assert {"QuantizeLinear", "DequantizeLinear"} <= {*ops(surgery.model)}
    (parity,) = check_equivalence(model, surgery.model)
    assert parity.number_format == "int8"
    assert parity.passed
    assert parity.tolerance_used < 0.1


def test_quantized_rows_of_clips_are_averaged_before_softmax() -> None:
    text = """g (float[2,3] x) => (float[4,5] y) {
        r = Reshape(x, shape) h = Gemm(r, w) p = Softmax<axis = 1>(h)
        q = QuantizeLinear(p, s, z) y = DequantizeLinear(q, s, z)
    }"""
    model = graph(
        text.replace("[2,3]", "[2,6]"),
        opset=13,
        w=noise(3, 5),
        shape=integers(4, 3),
        s=np.float32(1 / 255),  # type: ignore[arg-type]
        z=np.array(0, dtype=np.uint8),
    )
    averaged = after(model, "average-views")
    sample = noise(2, 6)
    logits = sample.reshape(2, 2, 3).mean(axis=1) @ noise(3, 5)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    (found,) = run(averaged, sample)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=0, atol=1 / 255)
    assert_equivalent(model, averaged)
