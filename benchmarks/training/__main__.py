"""What training costs besides the network, and how fast a GPU trains: `python -m benchmarks.training`.

On a machine with an NVIDIA GPU, `--parts device` measures the GPU only, in less than four minutes.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from benchmarks.measuring.report import Report, Table, Target, reported, write_report
from benchmarks.measuring.settings import machine_state
from benchmarks.training.clip_rates import FRAMES, clip_rates
from benchmarks.training.device_rates import RESIDENT, device_rates
from benchmarks.training.loops import ResidentClips, bare_speed, our_speed
from benchmarks.training.made_videos import write_frames
from train.outputs.run_log import LOG_NAME
from vidom.command import run
from vidom.errors import ExitCode, ExternalToolError, UsageError
from vidom.formats.recipe import load_recipe
from vidom.journals import read_json_lines
from vidom.options import option, read_options

__all__ = ["TrainingOptions", "main", "training"]

_log = logging.getLogger(__name__)

Part = Literal["device", "loop", "clips", "memory"]
PARTS: tuple[Part, ...] = get_args(Part)
# Small enough for a CPU, and still dominated by the network.
_SMALL = (
    *("network.depth=10", "network.base_channels=32", "views.short_side=64", "views.crop_size=56"),
    *("train.crop_size=56", "train.batch_size=4"),
)
_EPOCHS, _EARLY = 20, 3


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Measure the training loop, the making of clips, memory and, where there is one, an NVIDIA GPU."""

    parts: tuple[Part, ...] = option("what to measure", default=PARTS)
    rounds: int = option("interleaved rounds", default=5)
    steps: int = option("steps in each measurement of a loop", default=20)
    output_dir: Path = option("folder of the report", default=Path("run/bench"))
    work: Path | None = option("folder of the temporary frames (default: the system's)", default=None)

    def __post_init__(self) -> None:
        for name in ("rounds", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, not {getattr(self, name)}.")


def training(options: TrainingOptions) -> Report:
    """Write `training.md` and `.json`, and return the report."""
    tables: list[Table] = []
    targets: list[Target] = []
    device: dict[str, float] = {}
    notes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = Path(work)
        if "device" in options.parts and torch.cuda.is_available():
            device, table, met = device_rates(folder, steps=options.steps)
            tables.append(table)
            targets += met
        elif "device" in options.parts:
            notes["GPU"] = "not measured, because torch finds no NVIDIA GPU"
        if "loop" in options.parts:
            targets.append(_loop(options))
        if "clips" in options.parts:
            clips, table, met = clip_rates(folder, rounds=options.rounds)
            tables.append(table)
            targets += met
            if device:
                notes["cores that feed the GPU"] = f"{device[RESIDENT] / clips[FRAMES]:.1f}"
        if "memory" in options.parts:
            targets.append(_memory(folder))
    report = Report(
        name="training",
        question="What does training cost besides the network, and how fast does a GPU train?",
        tables=tables,
        targets=targets,
        conditions={**notes, "rounds": options.rounds, "steps": options.steps, **machine_state()},
    )
    write_report(report, options.output_dir)
    return report


def _loop(options: TrainingOptions) -> Target:
    """Compare the loop with a bare one, on a small network on the CPU and clips in memory."""
    recipe = load_recipe("tsm_ucf101", _SMALL)
    clips = ResidentClips.of(recipe)
    bare = ours = 0.0
    for _ in range(options.rounds):
        bare = max(bare, bare_speed(recipe, torch.device("cpu"), precision="no", steps=options.steps))
        ours = max(ours, our_speed(recipe, clips, precision="no", steps=options.steps, workers=0))
    _log.info(f"bare loop {bare:.2f} clips/s, vidom {ours:.2f} clips/s")
    return Target("bare loop on the CPU, over vidom", bare / ours, 1.05, at_least=False)


def _memory(folder: Path) -> Target:
    """Compare the memory of a run after its last epoch with that after an early one; clips are made in the process."""
    ann_file = write_frames(folder / "memory", count=16, frames=12)
    output = folder / "run"
    settings = [word for entry in _SMALL for word in ("--set", entry)]
    words = [
        *("--recipe", "tsm_ucf101", *settings, "--data_root", str(ann_file.parent)),
        *("--ann_file", str(ann_file), "--output_dir", str(output)),
        *("--workers", "0", "--steps", str(_EPOCHS * 4)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "train", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ExternalToolError(f"python -m train ended with {done.returncode}:\n{done.stderr[-2000:]}")
    log = read_json_lines(output / LOG_NAME)
    early, last = (
        max(line["memory_mb"] for line in log if line["epoch"] < epoch) for epoch in (_EARLY, _EPOCHS)
    )
    _log.info(f"{early:.1f} MB after epoch {_EARLY}, {last:.1f} MB after epoch {_EPOCHS}")
    return Target(f"memory after epoch {_EPOCHS}, over epoch {_EARLY}", last / early, 1.05, at_least=False)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a target is missed."""
    return reported(training, read_options(TrainingOptions, argv, prog="python -m benchmarks.training"))


if __name__ == "__main__":
    run(main)
