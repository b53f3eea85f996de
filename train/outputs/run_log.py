"""What a run writes while it trains: `log.jsonl`, TensorBoard events where tensorboard is installed, a progress bar.

    {"step": 12, "epoch": 0, "loss", "rate", "grad_norm", "clips", "clips_per_s", "data_wait", "memory_mb"}
    {"step": 38, "epoch": 1, "top1", "top5", "n"}        after a validation

`clips_per_s` counts the clips of all devices, `data_wait` is the part of the step's time spent waiting for clips, and
`memory_mb` the largest amount of the device's memory (on a CPU of the process's) so far. Times differ from run to run;
everything else is the same for the same seed on the same CPU.
"""

from __future__ import annotations

import importlib.util
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidom.journals import append_line, open_journal, read_json_lines
from vidom.progress import progress

__all__ = ["LOG_NAME", "TIMES", "RunLog", "memory_mb"]

LOG_NAME = "log.jsonl"
TIMES = ("clips_per_s", "data_wait", "memory_mb")
"""The entries that differ from run to run."""


class RunLog:
    """The log of a run in its folder, continued at `step`: later lines of a killed run are removed.

    On devices other than the first, `folder` is None and nothing is written.
    """

    def __init__(self, folder: Path | None, *, step: int, total: int) -> None:
        self._events: Any = None
        self._lines = None
        self._bar = progress(total=total, unit="step", label="train", done=step) if folder else None
        if folder:
            path = folder / LOG_NAME
            self._lines = open_journal(path, [line for line in read_json_lines(path) if line["step"] < step])
            if importlib.util.find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write one line; numbers go to TensorBoard too."""
        if self._lines is not None:
            append_line(self._lines, dict(entry))
        if self._events is not None:
            for name, value in entry.items():
                if name not in ("step", "epoch") and value is not None:
                    self._events.add_scalar(name, value, entry["step"])

    def advance(self, loss: float) -> None:
        """Move the progress bar by a step."""
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    def close(self) -> None:
        """Close the files and the bar."""
        for part in (self._lines, self._events, self._bar):
            if part is not None:
                part.close()


def memory_mb(device: torch.device) -> float:
    """Return the largest amount of memory, in MB (10^6 bytes), that the device has held for this process so far."""
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return float(getattr(torch, device.type).max_memory_allocated(device)) / 1e6
