"""The options of each engine in a class of its own, so that a wrong combination cannot be expressed.

`on_cpu` and `on_npu` are what an engine's options say of where it computes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from vidom.errors import UsageError
from vidom.formats.recipe import Recipe
from vidom.options import option

__all__ = [
    "LARGEST_DEVICE",
    "PRECISIONS",
    "AscendOptions",
    "CannOptions",
    "EngineOptions",
    "OnnxRuntimeOptions",
    "OpenVinoOptions",
    "Precision",
    "TorchOptions",
    "float32_reference",
    "parse_devices",
]

Precision = Literal["f32", "bf16"]
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
        "threads of ONNX Runtime, OpenVINO or torch on the CPU (default: one per usable core)", default=None
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
    on_cpu: ClassVar[bool] = True
    on_npu: ClassVar[bool] = False

    precision: Precision = option(
        "arithmetic of OpenVINO or torch: f32, or bf16 on hardware that supports it", default="f32"
    )
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        _check_precision(self.precision)


@dataclass(frozen=True, kw_only=True)
class AscendOptions:
    """ais_bench, an external process for each of the `devices`, which are NPU numbers; they share the input files."""

    name: ClassVar[Literal["ascend"]] = "ascend"
    on_cpu: ClassVar[bool] = False
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
    on_cpu: ClassVar[bool] = False
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


@dataclass(frozen=True, kw_only=True)
class TorchOptions:
    """The network of `recipe` itself with the weights of `checkpoint`, by torch in this process.

    It computes on the GPUs or NPUs `devices`, each a batch at a time, where torch finds any, else on the CPU. The
    recipe is the command's, which `choose_engine` adds.
    """

    name: ClassVar[Literal["torch"]] = "torch"

    checkpoint: str = option(
        "checkpoint that --engine torch runs without any export, or seeded:N (default: the recipe's own file)",
        default="",
    )
    ignore_meta: bool = option(
        "load a checkpoint although its own training configuration contradicts the recipe", default=False
    )
    input_dtype: Literal["float32", "uint8"] = option(
        "samples for --engine torch; uint8: it normalises", default="float32"
    )
    precision: Precision = "f32"
    devices: tuple[int, ...] = (0,)
    threads: int | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        _check_precision(self.precision)
        _check_devices(self.devices)

    @property
    def on_cpu(self) -> bool:
        """Whether torch finds neither a GPU nor an NPU on this machine."""
        return self._kind == "cpu"

    @property
    def on_npu(self) -> bool:
        """Whether torch finds an NPU on this machine."""
        return self._kind == "npu"

    @property
    def _kind(self) -> str:
        # torch is imported for this engine only.
        from vidom.system.torch_devices import device_kind

        return device_kind()


EngineOptions = OnnxRuntimeOptions | OpenVinoOptions | AscendOptions | CannOptions | TorchOptions


def float32_reference(options: EngineOptions) -> OpenVinoOptions | TorchOptions | None:
    """Return the same options with float32 arithmetic, None where the arithmetic is the model's own already."""
    if isinstance(options, OpenVinoOptions | TorchOptions) and options.precision != "f32":
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


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be at least 1, found {threads}.")


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, found {precision!r}.")


def _check_devices(devices: tuple[int, ...]) -> None:
    if not devices or not all(0 <= device <= LARGEST_DEVICE for device in devices):
        raise UsageError(f"--device takes numbers from 0 to {LARGEST_DEVICE}, found {devices}.")
    if len(set(devices)) != len(devices):
        listed = ",".join(map(str, devices))
        raise UsageError(f"--device {listed} names a device twice; each runs one part of the input.")
