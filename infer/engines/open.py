"""Open a model with the engine that its options belong to; each engine's package is imported when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from infer.engines.base import ArrayEngine, Engine, FileEngine
from infer.engines.engine_options import (
    AscendOptions,
    CannOptions,
    EngineOptions,
    OnnxRuntimeOptions,
    OpenVinoOptions,
)

__all__ = ["open_engine"]

ArrayEngineOptions = OnnxRuntimeOptions | OpenVinoOptions | CannOptions


@overload
def open_engine(
    model: Path | str,
    options: ArrayEngineOptions = ...,
    *,
    batch_size: int | None = ...,
    shares_cores: bool = ...,
) -> ArrayEngine: ...


@overload
def open_engine(
    model: Path | str, options: AscendOptions, *, batch_size: int | None = ..., shares_cores: bool = ...
) -> FileEngine: ...


@overload
def open_engine(
    model: Path | str, options: EngineOptions, *, batch_size: int | None = ..., shares_cores: bool = ...
) -> Engine: ...


def open_engine(
    model: Path | str,
    options: EngineOptions = OnnxRuntimeOptions(),
    *,
    batch_size: int | None = None,
    shares_cores: bool = False,
) -> Engine:
    """Return the model opened by the engine of `options`.

    `batch_size` is for a symbolic batch axis. Where other processes compute on the same cores, `shares_cores` makes
    ONNX Runtime's threads sleep while they wait; OpenVINO's always do. Raises what the engine raises.
    """
    if isinstance(options, AscendOptions):
        from infer.engines.ascend.engine import AscendEngine

        return AscendEngine(model, options, batch_size=batch_size)
    if isinstance(options, CannOptions):
        from infer.engines.cann.cann_engine import CannEngine

        return CannEngine(model, options, batch_size=batch_size)
    if isinstance(options, OpenVinoOptions):
        from infer.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, options, batch_size=batch_size)
    from infer.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, options, batch_size=batch_size, shares_cores=shares_cores)
