"""Which engine a command line asks for, with the options of that engine.

    engine: EngineRequest = engine_option()     # a field of a command's options

adds `--engine` and the options of all engines to the command. `choose_engine` turns the request into the options of
one engine; an option of an engine that is not the chosen one is refused there.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from infer.engines.engine_options import (
    AscendOptions,
    CannOptions,
    EngineOptions,
    OnnxRuntimeOptions,
    OpenVinoOptions,
    TorchOptions,
    parse_devices,
)
from vidom.errors import UsageError
from vidom.options import add_options, group

__all__ = [
    "BUILT_ENGINES",
    "ENGINES",
    "AutoOptions",
    "EngineName",
    "EngineRequest",
    "engine_option",
    "engine_options",
]

_log = logging.getLogger(__name__)

EngineName = Literal["auto", "onnxruntime", "openvino", "ascend", "cann", "torch"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
# Those that run what was built from a checkpoint.
BUILT_ENGINES = tuple(name for name in ENGINES if name != "torch")
_CLASSES: dict[str, type[EngineOptions]] = {
    "onnxruntime": OnnxRuntimeOptions,
    "openvino": OpenVinoOptions,
    "ascend": AscendOptions,
    "cann": CannOptions,
    "torch": TorchOptions,
}


@dataclass(frozen=True)
class AutoOptions:
    """Options of an engine that is chosen once the model is known; `given` holds those typed, by option name."""

    given: Mapping[str, Any] = field(default_factory=dict, hash=False)


EngineRequest = EngineOptions | AutoOptions


def engine_option(engines: Sequence[EngineName] = ENGINES) -> Any:
    """Return a dataclass field of type EngineRequest that is read from `--engine` and the options of these engines."""
    return group(_EngineGroup(engines), default=AutoOptions())


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
    if name == "torch":
        return TorchOptions(devices=devices, **values)
    if len(devices) > 1:
        raise UsageError(
            f"--device {','.join(map(str, devices))} names several devices, but --engine {name} runs on one; "
            "several are for --engine ascend and --engine torch."
        )
    if name == "cann":
        return CannOptions(device=devices[0], **values)
    if name == "openvino":
        options: OnnxRuntimeOptions | OpenVinoOptions = OpenVinoOptions(**values)
    else:
        options = OnnxRuntimeOptions(device=devices[0], **values)
    if devices != (0,) and options.on_cpu:
        _log.warning(f"--device {devices[0]} has no effect: the model runs on the CPU.")
    return options


@dataclass(frozen=True)
class _EngineGroup:
    engines: Sequence[EngineName]

    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--engine",
            choices=self.engines,
            default=argparse.SUPPRESS,
            help="auto takes the NPU if it, ais_bench and the .om are available, else onnxruntime (default: auto)",
        )
        parser.add_argument(
            "--device",
            "-d",
            type=parse_devices,
            default=argparse.SUPPRESS,
            metavar="N[,N]",
            help="device number of the NPU, of torch's GPU or of ONNX Runtime's provider; several NPUs (--engine "
            "ascend) or devices of torch, such as 0,1, share the input (default: 0)",
        )
        for cls in self._classes():
            add_options(parser, cls)

    def build(self, given: dict[str, Any]) -> EngineRequest:
        name = given.pop("engine", "auto")
        names = {"device"}.union(*map(_option_names, self._classes()))
        typed = {key: given.pop(key) for key in sorted(names & given.keys())}
        return AutoOptions(typed) if name == "auto" else engine_options(name, typed)

    def _classes(self) -> list[type[EngineOptions]]:
        return [cls for name, cls in _CLASSES.items() if name in self.engines]


def _option_names(cls: type[EngineOptions]) -> set[str]:
    return {one.name for one in fields(cls)} - {"device", "devices", "recipe"}


def _owners(key: str) -> str:
    return " and ".join(name for name, cls in _CLASSES.items() if key in _option_names(cls))
