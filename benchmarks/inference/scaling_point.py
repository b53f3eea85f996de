"""One point of the scaling table, for a separate process that imports only the measured engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidom.system.machine import usable_cores

__all__ = ["run_point"]

_COUNTED = 2


def run_point(engine: str, model: str, precision: str, shape: str, result: str) -> None:
    """Write the seconds of the faster of two runs, after an uncounted one, to the JSON file `result`.

    `model` is a recipe's YAML for the engine torch, otherwise an ONNX file; `shape` is that of a batch, `4,8,3,64,64`.
    """
    sizes = tuple(map(int, shape.split(",")))
    sample = np.random.default_rng(0).standard_normal(sizes, dtype=np.float32)
    work = _torch(model) if engine == "torch" else _engine(engine, model, precision)
    seconds = []
    for _ in range(1 + _COUNTED):
        began = time.perf_counter()
        work(sample)
        seconds.append(time.perf_counter() - began)
    Path(result).write_text(json.dumps({"seconds": min(seconds[1:])}), encoding="utf-8")


def _torch(recipe: str) -> Callable[[Any], object]:
    import torch

    from networks.deployable import build_deployable
    from vidom.formats.recipe import load_recipe

    torch.set_num_threads(usable_cores())
    deployable, _ = build_deployable(load_recipe(recipe), "seeded:0")

    def run(sample: Any) -> object:
        with torch.inference_mode():
            return deployable(torch.from_numpy(sample))

    return run


def _engine(name: str, model: str, precision: str) -> Callable[[Any], object]:
    from infer.engines.engine_options import OnnxRuntimeOptions, OpenVinoOptions
    from infer.engines.open import open_engine

    openvino = OpenVinoOptions(precision=precision)  # type: ignore[arg-type]
    engine = open_engine(model, openvino if name == "openvino" else OnnxRuntimeOptions())
    return lambda sample: engine.run([sample])
