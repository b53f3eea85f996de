"""Share of each operator type in ONNX Runtime's run time of a model."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vidom.system.onnx_runtime import onnxruntime

__all__ = ["node_seconds", "non_convolution_share"]

# ONNX's name, and ONNX Runtime's name for a convolution with a fused operator.
_CONVOLUTIONS = ("Conv", "FusedConv")
_RUNS = 3
_KERNEL = "_kernel_time"


def node_seconds(model: Path, sample: Mapping[str, npt.NDArray[Any]], threads: int) -> dict[str, float]:
    """Return the seconds that one run of `model` on `sample` spends in each operator, the longest first.

    Operators are those of the graph after ONNX Runtime's own optimization, including layout reorders. Of three runs
    after an uncounted one, the one with the least total node time is returned.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for _ in range(1 + _RUNS):
            session.run(None, dict(sample))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = _by_run(events)[1:]
    return dict(min(runs, key=lambda run: sum(run.values())).most_common())


def non_convolution_share(model: Path, sample: Mapping[str, npt.NDArray[Any]], threads: int) -> float:
    """Return the share, 0 to 1, of node time that `model` spends outside convolutions; see `node_seconds`."""
    seconds = node_seconds(model, sample, threads)
    return 1 - sum(seconds.get(name, 0.0) for name in _CONVOLUTIONS) / sum(seconds.values())


def _by_run(events: list[dict[str, Any]]) -> list[Counter[str]]:
    """Return for each run the seconds by operator; a run's event follows those of its nodes."""
    runs: list[Counter[str]] = []
    current: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            current[event["args"]["op_name"]] += event["dur"] / 1e6
        elif event.get("name") == "model_run":
            runs.append(current)
            current = Counter()
    return runs
