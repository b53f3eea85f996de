from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from infer.engines.engine_options import (
    AscendOptions,
    CannOptions,
    OnnxRuntimeOptions,
    OpenVinoOptions,
    TorchOptions,
    float32_reference,
    parse_devices,
)
from infer.engines.engine_request import AutoOptions, EngineRequest, engine_option, engine_options
from vidom.errors import UsageError
from vidom.options import read_options


@dataclass(frozen=True, kw_only=True)
class Some:
    """Run something."""

    engine: EngineRequest = engine_option()


def read(words: str) -> EngineRequest:
    return read_options(Some, words.split()).engine


def test_the_class_is_that_of_the_engine_and_holds_its_options_only():
    assert read("--engine onnxruntime --provider CUDA --device 1 --threads 3") == OnnxRuntimeOptions(
        provider="CUDA", device=1, threads=3
    )
    assert read("--engine openvino --precision bf16 --threads 2") == OpenVinoOptions(
        precision="bf16", threads=2
    )
    assert read("--engine ascend -d 0,1 --time-limit 2.5") == AscendOptions(devices=(0, 1), time_limit=2.5)
    assert read("--engine cann --device 3 --precision-mode force_fp32") == CannOptions(
        device=3, precision_mode="force_fp32"
    )
    assert read("--engine torch --checkpoint best.pth --device 1,0 --precision bf16") == TorchOptions(
        checkpoint="best.pth", devices=(1, 0), precision="bf16"
    )
    assert read("") == Some().engine == AutoOptions()


def test_auto_keeps_what_was_typed_until_the_engine_is_chosen():
    request = read("--threads 2 --device 1")
    assert request == AutoOptions({"threads": 2, "device": (1,)})
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    ("words", "owner"),
    [
        ("--engine ascend --provider CUDA", "--provider belongs to onnxruntime"),
        ("--engine ascend --threads 2", "--threads belongs to onnxruntime and openvino"),
        ("--engine ascend --precision f32", "--precision belongs to openvino"),
        ("--engine onnxruntime --precision bf16", "--precision belongs to openvino"),
        ("--engine onnxruntime --time_limit 5", "--time_limit belongs to ascend"),
        ("--engine openvino --provider CUDA", "--provider belongs to onnxruntime"),
        ("--engine cann --provider CANN", "--provider belongs to onnxruntime"),
        ("--engine onnxruntime --precision_mode force_fp32", "--precision_mode belongs to cann"),
        ("--engine openvino --checkpoint best.pth", "--checkpoint belongs to torch"),
        ("--engine torch --provider CUDA", "--provider belongs to onnxruntime"),
    ],
)
def test_an_option_of_an_engine_that_is_not_the_chosen_one_is_refused_by_name(words: str, owner: str):
    with pytest.raises(UsageError, match=owner):
        read(words)


def test_all_foreign_options_are_named_at_once():
    with pytest.raises(
        UsageError, match=r"--precision belongs to openvino and torch; --provider belongs to onnxruntime"
    ):
        read("--engine ascend --provider CUDA --precision f32")


def test_a_device_that_the_cpu_does_not_have_is_reported(caplog: pytest.LogCaptureFixture):
    for words in ("--engine openvino", "--engine onnxruntime", "--engine onnxruntime --provider CPU"):
        caplog.clear()
        read(f"{words} --device 0")
        assert not caplog.messages
        read(f"{words} --device 3")
        assert caplog.messages == ["--device 3 has no effect: the model runs on the CPU."]
        with pytest.raises(UsageError, match="several devices"):
            read(f"{words} --device 0,1")


@pytest.mark.parametrize("text", ["256", "-1", "x", "", "0,", "0,256", "²"])
def test_a_device_is_a_number_from_0_to_255(text: str):
    with pytest.raises(UsageError, match="0 to 255"):
        parse_devices(text)


def test_wrong_values_are_refused_whoever_makes_the_options():
    for make, words in (
        (lambda: OnnxRuntimeOptions(threads=0), "--threads must be at least 1"),
        (lambda: OpenVinoOptions(threads=-1), "--threads must be at least 1"),
        (lambda: OpenVinoOptions(precision="f16"), "--precision must be one of f32, bf16"),  # type: ignore[arg-type]
        (lambda: AscendOptions(time_limit=0), "--time_limit takes the seconds"),
        (lambda: AscendOptions(devices=(1, 1)), "names a device twice"),
        (lambda: AscendOptions(devices=()), "0 to 255"),
        (lambda: OnnxRuntimeOptions(device=256), "0 to 255"),
        (lambda: CannOptions(device=256), "0 to 255"),
        (lambda: CannOptions(precision_mode="fp32"), "--precision_mode must be one of force_fp16"),  # type: ignore[arg-type]
        (lambda: engine_options("cann", {"device": (0, 1)}), "several are for --engine ascend"),
        (lambda: engine_options("tpu", {}), "auto, onnxruntime, openvino, ascend, cann, torch"),
        (lambda: TorchOptions(devices=(0, 0)), "names a device twice"),
        (lambda: TorchOptions(threads=0), "--threads must be at least 1"),
        (lambda: TorchOptions(precision="f16"), "--precision must be one of f32, bf16"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=words):
            make()


def test_only_arithmetic_in_bfloat16_has_a_reference_in_float32():
    assert float32_reference(OpenVinoOptions(precision="bf16", threads=2)) == OpenVinoOptions(threads=2)
    assert float32_reference(TorchOptions(precision="bf16", threads=2)) == TorchOptions(threads=2)
    for options in (OpenVinoOptions(), OnnxRuntimeOptions(), AscendOptions(), CannOptions(), TorchOptions()):
        assert float32_reference(options) is None
