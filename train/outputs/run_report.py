"""What came out of a run: `train.json`, `curves.png`, and the row of the training guides' tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train.outputs.run_checkpoint import Progress
from train.outputs.run_log import LOG_NAME
from vidom.files import atomic_path, write_json
from vidom.formats.recipe import Recipe
from vidom.journals import read_json_lines

__all__ = ["Outcome", "write_report"]


@dataclass(frozen=True)
class Outcome:
    """A finished run. `clips_per_s` is over all devices, data included, the first five steps left out; `left_out` are
    unreadable samples, and why they are.
    """

    recipe: Recipe
    progress: Progress
    clips_per_s: float | None
    devices: int
    device: str
    precision: str
    epochs: float
    left_out: Mapping[str, str]
    identity: Mapping[str, Any]

    @property
    def row(self) -> str:
        """The guides' table with this run's row: name, accuracy, FPS, epochs, precision, torch version."""
        top1 = self.progress.best_top1
        cells = {
            "Name": f"{self.recipe.name} {self.devices}p {self.device}",
            "Acc": "-" if top1 is None else f"{top1:.4f}",
            "FPS": "-" if self.clips_per_s is None else f"{self.clips_per_s:.1f}",
            "Epochs": f"{self.epochs:g}",
            "AMP": self.precision,
            "Torch": version("torch"),
        }
        widths = [max(map(len, pair)) for pair in cells.items()]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (cells.keys(), cells.values())
        )


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write `train.json` and, where matplotlib is installed, `curves.png` to the run's folder."""
    published = [entry.model_dump(mode="json") for entry in outcome.recipe.published]
    write_json(
        folder / "train.json",
        {
            "recipe": outcome.recipe.model_dump(mode="json"),
            "identity": dict(outcome.identity),
            "versions": {name: version(name) for name in ("torch", "accelerate", "numpy")},
            "device": outcome.device,
            "epochs": outcome.epochs,
            "clips_per_s": outcome.clips_per_s,
            "left_out": dict(outcome.left_out),
            "reached": asdict(outcome.progress),
            "published": published,
        },
    )
    if importlib.util.find_spec("matplotlib"):
        with atomic_path(folder / "curves.png") as temporary:
            _draw(temporary, read_json_lines(folder / LOG_NAME), title=outcome.recipe.name)


def _draw(path: Path, lines: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Draw loss and rate over the steps, and the accuracy of the validations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, accuracy = figure.subplots(3, 1, sharex=True)
    steps = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "top1" in line]
    numbers = [line["step"] for line in steps]
    loss.plot(numbers, [line["loss"] for line in steps], linewidth=0.8)
    loss.set(ylabel="loss", title=title)
    rate.plot(numbers, [line["rate"] for line in steps], linewidth=0.8)
    rate.set(ylabel="learning rate")
    for name, label in (("top1", "top-1"), ("top5", "top-5")):
        accuracy.plot(
            [line["step"] for line in validations], [line[name] for line in validations], ".-", label=label
        )
    accuracy.set(ylabel="accuracy", xlabel="step", ylim=(0, 1))
    accuracy.legend(loc="lower right")
    figure.savefig(path, format="png", dpi=120)
