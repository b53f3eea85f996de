"""The devices that torch computes on here, and all that differs between the CPU, CUDA and Ascend NPUs.

Imported where torch is used anyway; `vidom` keeps torch from loading torch_npu on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from vidom.errors import UnavailableError
from vidom.system.npu import visible_npus

__all__ = [
    "VISIBLE",
    "DeviceKind",
    "check_present",
    "chosen_devices",
    "device_kind",
    "lay_out",
    "use_precision",
]

DeviceKind = Literal["cuda", "npu", "cpu"]

# The variable that limits a process to some cards, for each kind of device.
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES"}


def device_kind() -> DeviceKind:
    """Return `cuda`, `npu` or `cpu`.

    Raises UnavailableError where npu-smi shows NPUs that torch cannot use: no run must end up on the CPU unnoticed.
    """
    if torch.cuda.is_available():
        return "cuda"
    try:
        import torch_npu  # noqa: F401

        usable = _module("npu").is_available()
        reason = "torch_npu finds none of them"
    except Exception as error:  # without CANN, or made for another torch, it fails in many ways
        usable, reason = False, f"torch_npu cannot be imported ({error})"
    if usable:
        return "npu"
    if npus := visible_npus():
        raise UnavailableError(
            f"npu-smi shows {npus} NPU(s), which torch cannot use: {reason}. Source set_env.sh of CANN and install the "
            f"torch-npu that is made for torch {torch.__version__.partition('+')[0]}; docs/training.md lists versions "
            "that fit. To use the CPU all the same, set ASCEND_RT_VISIBLE_DEVICES to nothing."
        )
    return "cpu"


def check_present(kind: DeviceKind, numbers: Sequence[int]) -> None:
    """Raise UnavailableError unless this machine has all these devices of the kind, `cuda` or `npu`."""
    present = _module(kind).device_count()
    if absent := [number for number in numbers if number >= present]:
        raise UnavailableError(
            f"torch finds {present} {kind.upper()} device(s) on this machine, numbered from 0; device {absent[0]} "
            f"does not exist. Name others, or check what {VISIBLE[kind]} shows of them."
        )


def chosen_devices(numbers: Sequence[int]) -> tuple[torch.device, ...]:
    """Return the GPUs or NPUs of these numbers, or the CPU for number 0 of a machine that has neither.

    Raises UnavailableError where one does not exist.
    """
    kind = device_kind()
    if kind != "cpu":
        check_present(kind, numbers)
        return tuple(torch.device(kind, number) for number in numbers)
    if tuple(numbers) != (0,):
        raise UnavailableError(
            f"--device {','.join(map(str, numbers))} names GPUs or NPUs, and torch {torch.__version__} finds none on "
            "this machine. Leave it out to compute on the CPU. GPUs need torch's build for CUDA (make "
            "distclean setup TORCH=cuda), NPUs torch-npu and the set_env.sh of CANN."
        )
    return (torch.device("cpu"),)


def use_precision(device: torch.device, precision: Literal["f32", "bf16"]) -> None:
    """Have this process compute float32 as such, and raise UnavailableError where the device has no bfloat16.

    By default convolutions round float32 to TF32 on GPUs and to HF32 on NPUs (torch.backends.cudnn.allow_tf32,
    torch_npu.npu.conv.allow_hf32).
    """
    if device.type == "cpu":
        return
    module = _module(device.type)
    if precision == "bf16" and not module.is_bf16_supported():
        raise UnavailableError(
            f"--precision bf16 needs a device with bfloat16, which {module.get_device_name(device)} is not. "
            "Use --precision f32."
        )
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    else:
        module.conv.allow_hf32 = module.matmul.allow_hf32 = False


def _module(kind: str) -> Any:
    return getattr(torch, kind)


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Give 2-D convolutions the memory layout in which the device computes them fastest; values and keys stay."""
    if device.type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
