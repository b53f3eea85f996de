"""Each engine's options in a class of its own, so that a wrong combination cannot be expressed; their command line.

    engine: EngineRequest = engine_option()     # a field of a command's options

adds `--engine` and the options of all engines to the command. `choose_engine` turns the request into the options of
one engine; an option of an engine that is not the chosen one is refused there.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

from vidom.errors import UsageError
from vidom.options import add_options, group, option

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "AscendOptions",
    "AutoOptions",
    "CannOptions",
    "EngineName",
    "EngineOptions",
    "EngineRequest",
    "OnnxRuntimeOptions",
    "OpenVinoOptions",
    "Precision",
    "engine_option",
    "engine_options",
    "float32_reference",
    "parse_devices",
]

_log = logging.getLogger(__name__)

EngineName = Literal["auto", "onnxruntime", "openvino", "ascend", "cann"]
Precision = Literal["f32", "bf16"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# Source: onnxruntime.ai, execution providers, CANN, `precision_mode`.
PrecisionMode = Literal[
    "force_fp16",
    "force_fp32",
    "cube_fp16in_fp32out",
    "allow_fp32_to_fp16",
    "allow_mix_precision",
    "must_keep_origin_dtype",
]
LARGEST_DEVICE = 255


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeOptions:
    """ONNX Runtime, in this process.

    `device` is the provider's device number; the CPU has none other than 0.
    """

    name: ClassVar[Literal["onnxruntime"]] = "onnxruntime"
    on_npu: ClassVar[bool] = False

    provider: str | None = option(
        "execution provider of ONNX Runtime, such as CUDA (default: the CPU)", default=None
    )
    device: int = 0
    threads: int | None = option(
        "threads of ONNX Runtime or OpenVINO on the CPU (default: one per usable core)", default=None
    )

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        _check_devices((self.device,))

    @property
    def on_cpu(self) -> bool:
        """Whether the provider is the CPU's."""
        return self.provider is None or self.provider.lower().startswith("cpu")


@dataclass(frozen=True, kw_only=True)
class OpenVinoOptions:
    """OpenVINO, in this process, on the CPU."""

    name: ClassVar[Literal["openvino"]] = "openvino"
    on_npu: ClassVar[bool] = False

    precision: Precision = option(
        "arithmetic of OpenVINO: f32, or bf16 on processors that support it", default="f32"
    )
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, found {self.precision!r}.")


@dataclass(frozen=True, kw_only=True)
class AscendOptions:
    """ais_bench, an external process for each of the `devices`, which are NPU numbers; they share the input files."""

    name: ClassVar[Literal["ascend"]] = "ascend"
    on_npu: ClassVar[bool] = True

    devices: tuple[int, ...] = (0,)
    time_limit: float | None = option(
        "seconds after which ais_bench is stopped (default: no limit)", default=None
    )

    def __post_init__(self) -> None:
        _check_devices(self.devices)
        if self.time_limit is not None and not self.time_limit > 0:
            raise UsageError(
                f"--time_limit takes the seconds after which ais_bench is stopped, found {self.time_limit}."
            )


@dataclass(frozen=True, kw_only=True)
class CannOptions:
    """onnxruntime-cann on the NPU `device`, in the interpreter that CANN_PYTHON names; `threads` are the host's."""

    name: ClassVar[Literal["cann"]] = "cann"
    on_npu: ClassVar[bool] = True

    precision_mode: PrecisionMode | None = option(
        "arithmetic of CANN, such as force_fp32 (default: that of onnxruntime-cann, force_fp16)", default=None
    )
    device: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        _check_devices((self.device,))
        if self.precision_mode not in (None, *get_args(PrecisionMode)):
            raise UsageError(
                f"--precision_mode must be one of {', '.join(get_args(PrecisionMode))}, found {self.precision_mode!r}."
            )


EngineOptions = OnnxRuntimeOptions | OpenVinoOptions | AscendOptions | CannOptions
_CLASSES: dict[str, type[EngineOptions]] = {
    "onnxruntime": OnnxRuntimeOptions,
    "openvino": OpenVinoOptions,
    "ascend": AscendOptions,
    "cann": CannOptions,
}


@dataclass(frozen=True)
class AutoOptions:
    """Options of an engine that is chosen once the model is known; `given` holds those typed, by option name."""

    given: Mapping[str, Any] = field(default_factory=dict, hash=False)


EngineRequest = EngineOptions | AutoOptions


def engine_option() -> Any:
    """Return a dataclass field of type EngineRequest that is read from `--engine` and the options of all engines."""
    return group(_EngineGroup(), default=AutoOptions())


def engine_options(name: str, given: Mapping[str, Any]) -> EngineOptions:
    """Return the options of the engine `name` from those typed, by option name; `device` is a tuple of numbers.

    Raises UsageError for an unknown engine, an option of a different engine, a wrong value, and several devices where
    the engine is a process of its own on one; a device number that has no effect is logged.
    """
    if name not in _CLASSES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, found {name!r}.")
    values = dict(given)
    devices = values.pop("device", (0,))
    foreign = [key for key in values if key not in _option_names(_CLASSES[name])]
    if foreign:
        owners = "; ".join(f"--{key} belongs to {_owners(key)}" for key in foreign)
        raise UsageError(f"{owners}. --engine {name} does not take it. Leave it out, or change --engine.")
    if name == "ascend":
        return AscendOptions(devices=devices, **values)
    if len(devices) > 1:
        raise UsageError(
            f"--device {','.join(map(str, devices))} names several devices, but --engine {name} runs in one process; "
            "several are for --engine ascend."
        )
    if name == "cann":
        return CannOptions(device=devices[0], **values)
    if name == "openvino":
        options: OnnxRuntimeOptions | OpenVinoOptions = OpenVinoOptions(**values)
    else:
        options = OnnxRuntimeOptions(device=devices[0], **values)
    if devices != (0,) and (isinstance(options, OpenVinoOptions) or options.on_cpu):
        _log.warning(f"--device {devices[0]} has no effect: the model runs on the CPU.")
    return options


def float32_reference(options: EngineOptions) -> OpenVinoOptions | None:
    """Return the same options with float32 arithmetic, None where the arithmetic is the model's own already."""
    if isinstance(options, OpenVinoOptions) and options.precision != "f32":
        return replace(options, precision="f32")
    return None


def parse_devices(text: str) -> tuple[int, ...]:
    """Return the device numbers of `0` or `0,1`; UsageError for anything but distinct numbers up to 255."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) <= LARGEST_DEVICE for part in parts):
        raise UsageError(
            f"--device must be a number from 0 to {LARGEST_DEVICE}, or several separated by commas, found {text!r}."
        )
    devices = tuple(int(part) for part in parts)
    _check_devices(devices)
    return devices


class _EngineGroup:
    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--engine",
            choices=ENGINES,
            default=argparse.SUPPRESS,
            help="auto takes the NPU if it, ais_bench and the .om are available, else onnxruntime (default: auto)",
        )
        parser.add_argument(
            "--device",
            "-d",
            type=parse_devices,
            default=argparse.SUPPRESS,
            metavar="N[,N]",
            help="device number of the NPU or of ONNX Runtime's provider; several NPUs, such as 0,1, share the input "
            "(default: 0)",
        )
        for cls in _CLASSES.values():
            add_options(parser, cls)

    def build(self, given: dict[str, Any]) -> EngineRequest:
        name = given.pop("engine", "auto")
        names = {"device"}.union(*map(_option_names, _CLASSES.values()))
        typed = {key: given.pop(key) for key in sorted(names & given.keys())}
        return AutoOptions(typed) if name == "auto" else engine_options(name, typed)


def _option_names(cls: type[EngineOptions]) -> set[str]:
    return {one.name for one in fields(cls)} - {"device", "devices"}


def _owners(key: str) -> str:
    return " and ".join(name for name, cls in _CLASSES.items() if key in _option_names(cls))


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1, found {threads}.")


def _check_devices(devices: tuple[int, ...]) -> None:
    if not devices or not all(0 <= device <= LARGEST_DEVICE for device in devices):
        raise UsageError(f"--device takes numbers from 0 to {LARGEST_DEVICE}, found {devices}.")
    if len(set(devices)) != len(devices):
        listed = ",".join(map(str, devices))
        raise UsageError(f"--device {listed} names a device twice; each runs one part of the input.")
