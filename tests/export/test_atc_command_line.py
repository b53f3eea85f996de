"""The ATC command: the line of the published guide, and every option that is rejected before ATC starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.atc.command_line import AtcOptions, GraphInput, atc_command, shown
from vidom.errors import UsageError

CLIPS = GraphInput("clips", (8, 48, 3, 256, 256))
SYMBOLIC = GraphInput("clips", (None, 48, 3, 256, 256))
FRAMES = GraphInput("frames", (48, 3, 256, 256))
GUIDE = [
    "atc",
    "--model=tsm_new_bs8.onnx",
    "--framework=5",
    "--output=tsm_bs8",
    "--input_format=ND",
    "--log=error",
    "--soc_version=Ascend310P3",
]


def command(
    *inputs: GraphInput,
    soc_version: str = "Ascend310P3",
    batch_size: int | None = None,
    cann: tuple[int, int] | None = None,
    model: str = "tsm_new_bs8.onnx",
    output: str = "tsm_bs8",
    **options: object,
) -> list[str]:
    return atc_command(
        model=model,
        output=output,
        inputs=inputs or (CLIPS,),
        soc_version=soc_version,
        batch_size=batch_size,
        cann=cann,
        options=AtcOptions(**options),  # type: ignore[arg-type]
    )


def test_the_published_line_with_explicit_shape_and_precision() -> None:
    words = command(batch_size=8)
    extra = ["--input_shape=clips:8,48,3,256,256", "--precision_mode=force_fp16"]
    assert [word for word in words if word not in extra] == GUIDE
    assert set(extra) < set(words)
    assert shown(words).startswith(
        "atc --model=tsm_new_bs8.onnx --framework=5 --output=tsm_bs8 --input_format=ND "
    )


def test_the_suffix_is_left_to_atc() -> None:
    assert "--output=tsm_bs8" in command(output="tsm_bs8.om")


@pytest.mark.parametrize(
    ("cann", "word"),
    [
        (None, "--precision_mode=force_fp16"),
        ((5, 0), "--precision_mode=force_fp16"),
        ((6, 0), "--precision_mode=force_fp16"),
        ((7, 0), "--precision_mode_v2=fp16"),
        ((8, 5), "--precision_mode_v2=fp16"),
    ],
)
def test_the_precision_is_always_explicit_with_the_option_of_the_release(
    cann: tuple[int, int] | None, word: str
) -> None:
    assert [entry for entry in command(cann=cann) if entry.startswith("--precision")] == [word]


def test_a_given_precision_is_passed_on() -> None:
    assert "--precision_mode_v2=origin" in command(precision_mode_v2="origin")
    assert "--precision_mode=allow_mix_precision" in command(
        precision_mode="allow_mix_precision", cann=(8, 0)
    )


def test_all_options_are_written() -> None:
    words = command(
        FRAMES,
        input_format="NCHW",
        op_precision_mode=Path("op.ini"),
        keep_dtype=Path("keep.cfg"),
        insert_op_conf=Path("aipp.cfg"),
        output_type="FP16",
    )
    for word in (
        "--op_precision_mode=op.ini",
        "--keep_dtype=keep.cfg",
        "--insert_op_conf=aipp.cfg",
        "--output_type=FP16",
        "--input_format=NCHW",
    ):
        assert word in words
    assert not any("auto_tune" in word for word in words)


def test_profiles_keep_the_batch_symbolic() -> None:
    words = command(SYMBOLIC, dynamic_batch_size=(1, 4, 8))
    assert "--input_shape=clips:-1,48,3,256,256" in words
    assert "--dynamic_batch_size=1,4,8" in words


def test_several_inputs_are_separated() -> None:
    words = command(GraphInput("a", (1, 2)), GraphInput("b.1", (1, 3)))
    assert "--input_shape=a:1,2;b.1:1,3" in words
    assert "'--input_shape=a:1,2;b.1:1,3'" in shown(words)


def test_types_of_single_outputs_select_the_outputs_too() -> None:
    words = command(output_type="logits:0:FP32;other:1:FP16")
    assert words[-2:] == ["--output_type=logits:0:FP32;other:1:FP16", "--out_nodes=logits:0;other:1"]


@pytest.mark.parametrize(
    ("inputs", "arguments", "reason"),
    [
        ((), {"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "mutually exclusive"),
        ((), {"precision_mode_v2": "fp16", "cann": (6, 0)}, "does not support --precision_mode_v2"),
        ((), {"precision_mode_v2": "force_fp16"}, "choose one of fp16"),
        ((), {"precision_mode": "fp16"}, "choose one of force_fp16"),
        ((), {"precision_mode_v2": "mixed_bfloat16"}, "Ascend310P3 does not support"),
        ((), {"precision_mode": "allow_fp32_to_bf16"}, "Ascend310P3 does not support"),
        ((), {"precision_mode_v2": "cube_hif8"}, "does not support"),
        ((), {"precision_mode_v2": "origin", "keep_dtype": Path("k")}, "no effect"),
        ((), {"precision_mode": "must_keep_origin_dtype", "keep_dtype": Path("k")}, "no effect"),
        ((), {"batch_size": 4}, "8,48,3,256,256"),
        ((), {"batch_size": 0}, "at least 1"),
        ((SYMBOLIC,), {}, "must be fixed"),
        ((SYMBOLIC,), {"dynamic_batch_size": (1, 4), "batch_size": 4}, "mutually exclusive"),
        ((SYMBOLIC,), {"dynamic_batch_size": (4,)}, "2 to 100"),
        ((SYMBOLIC,), {"dynamic_batch_size": (4, 4)}, "2 to 100"),
        ((SYMBOLIC,), {"dynamic_batch_size": (0, 4)}, "2 to 100"),
        ((SYMBOLIC,), {"dynamic_batch_size": tuple(range(1, 102))}, "2 to 100"),
        ((), {"dynamic_batch_size": (1, 4)}, "to be symbolic"),
        ((GraphInput("x", (None, 3, None)),), {"dynamic_batch_size": (1, 4)}, "to be symbolic"),
        ((FRAMES,), {"insert_op_conf": Path("a.cfg")}, "excludes --input_format ND"),
        ((), {"insert_op_conf": Path("a.cfg"), "input_format": "NCHW"}, "four dimensions"),
        ((FRAMES,), {"input_format": "NCDHW"}, "five dimensions"),
        ((), {"output_type": "HALF"}, "FP32"),
        ((), {"output_type": "node:0:FP16;broken"}, "FP32"),
        ((), {"model": "my model.onnx"}, "' '"),
        ((), {"model": "tsm.onnx "}, "' '"),
        ((), {"output": "tsm;rm"}, "';'"),
        ((), {"keep_dtype": Path("a b.cfg")}, "--keep_dtype"),
        ((GraphInput("x:0", (1, 3)),), {}, "cannot be used"),
        ((GraphInput("my x", (1, 3)),), {}, "cannot be used"),
    ],
)
def test_invalid_options_are_rejected_with_the_reason(
    inputs: tuple[GraphInput, ...], arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(UsageError) as raised:
        command(*inputs, **arguments)  # type: ignore[arg-type]
    assert reason in str(raised.value)


def test_bfloat16_is_accepted_for_chips_that_support_it() -> None:
    assert "--precision_mode_v2=mixed_bfloat16" in command(
        precision_mode_v2="mixed_bfloat16", soc_version="Ascend910B3"
    )
