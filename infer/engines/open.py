"""Open a model with the engine that its options belong to; each engine's package is imported when it is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import overload

from infer.engines.base import ArrayEngine, Engine, FileEngine
from infer.engines.engine_options import (
    AscendOptions,
    CannOptions,
    EngineOptions,
    OnnxRuntimeOptions,
    OpenVinoOptions,
    TorchOptions,
)

__all__ = ["open_engine"]

ArrayEngineOptions = OnnxRuntimeOptions | OpenVinoOptions | CannOptions | TorchOptions


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

    `batch_size` is for a symbolic batch axis; torch takes it for each device. Where other processes compute on the
    same cores, `shares_cores` makes the threads of ONNX Runtime and torch sleep while they wait, those of torch if this
    is its first use in this process; OpenVINO's always do. Raises what the engine raises.
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
    if isinstance(options, TorchOptions):
        if shares_cores:
            # OpenMP reads it when torch loads it.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from infer.engines.torch import TorchEngine

        return TorchEngine(model, options, batch_size=batch_size)
    from infer.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, options, batch_size=batch_size, shares_cores=shares_cores)
