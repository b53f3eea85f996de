"""Train the demo's small TSM, and its control without the shift, on clips generated in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo.examples import Examples, generate_examples
from demo.motion import GENERATOR_VERSION
from demo.symmetries import scatter
from networks.checkpoints.checkpoint import PlainValue, save_mmaction2
from networks.loading import build_network
from vidom.command import run
from vidom.errors import UsageError
from vidom.folder_lock import locked_folder
from vidom.formats.recipe import Recipe, load_recipe
from vidom.formats.views import ViewPlan
from vidom.options import option, read_options
from vidom.progress import progress

__all__ = ["TrainOptions", "Trained", "fit", "main", "predict", "train"]

_log = logging.getLogger(__name__)

# Differs from the default seed of `generate`, whose validation clips are never used here.
_VALIDATION_SEED = 1
_FILES = {True: "tsm_demo.pth", False: "tsn_demo.pth"}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train the demo's TSM and its control without the shift.

    AdamW with a one-cycle learning rate, each step on randomly reflected clips.
    """

    output_dir: Path = option("folder of the checkpoints", default=Path("demo/checkpoints"))
    seed: int = option("seed of clips, weights and order", default=0)
    clips_per_class: int = option("training clips of each class", default=600)
    steps: int = option("optimizer steps", default=1500)
    batch_size: int = option("clips per step", default=32)
    workers: int | None = option("processes that generate clips (default: one per core)", default=None)
    unseen_per_class: int = 50
    rate: float = 3e-3
    decay: float = 0.05

    def __post_init__(self) -> None:
        if min(self.clips_per_class, self.steps, self.batch_size) < 1:
            raise UsageError("--clips_per_class, --steps and --batch_size must be at least 1.")


@dataclass(frozen=True)
class Trained:
    """The file of a network, and its top-1 on synthetic validation clips."""

    path: Path
    top1: float


def train(options: TrainOptions) -> tuple[Trained, Trained]:
    """Write `tsm_demo.pth` and `tsn_demo.pth` to the output folder and return the TSM and its control.

    Both are trained on the same clips in the same order. The same options, versions, number of threads and kind of
    processor give the same files; otherwise sums are computed in a different order, so that weights differ in their
    last bits at first and visibly after many steps, and the accuracy by noise.
    """
    recipe = load_recipe("tsm_demo")
    examples = generate_examples(
        "train",
        clips_per_class=options.clips_per_class,
        plan=recipe.views,
        seed=options.seed,
        workers=options.workers,
    )
    unseen = generate_examples(
        "validation",
        clips_per_class=options.unseen_per_class,
        plan=recipe.views,
        seed=_VALIDATION_SEED,
        workers=options.workers,
    )
    tsm, control = (_train_one(recipe, examples, unseen, options, shift=shift) for shift in (True, False))
    return tsm, control


def _train_one(
    recipe: Recipe, examples: Examples, unseen: Examples, options: TrainOptions, *, shift: bool
) -> Trained:
    torch.manual_seed(options.seed)
    network = build_network("tsm", {**recipe.network_arguments, "shift": shift, "dropout": 0.0})
    label = "TSM" if shift else "control"
    with progress(total=options.steps, unit="step", label=f"train {label}") as bar:
        for loss in fit(network, examples, plan=recipe.views, options=options):
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    correct = predict(network, unseen, plan=recipe.views).argmax(1) == torch.from_numpy(unseen.labels)
    trained = Trained(options.output_dir / _FILES[shift], correct.double().mean().item())
    _log.info(f"{label}: top-1 {trained.top1:.4f} on {len(correct)} unseen clips, written to {trained.path}")
    meta: dict[str, PlainValue] = {
        "recipe": recipe.name,
        "shift": shift,
        "generator": GENERATOR_VERSION,
        "seed": options.seed,
        "steps": options.steps,
    }
    save_mmaction2(trained.path, network, meta)
    return trained


def fit(network: nn.Module, examples: Examples, *, plan: ViewPlan, options: TrainOptions) -> Iterator[float]:
    """Train `network` on the examples and yield the loss of each step."""
    random = torch.Generator().manual_seed(options.seed)
    clips, labels = torch.from_numpy(examples.clips), torch.from_numpy(examples.labels)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(network, options.decay), lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.steps, pct_start=0.15
    )
    for chosen in _batches(len(clips), options, random):
        pixels, targets = scatter(clips[chosen], labels[chosen], random)
        loss = functional.cross_entropy(network(_normalised(pixels, plan)), targets, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        yield loss.item()


def predict(network: nn.Module, examples: Examples, *, plan: ViewPlan) -> Tensor:
    """Return the network's logits [n, classes] in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(examples.clips), 64)
        return torch.cat([network(_normalised(part, plan)) for part in parts])


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Return two groups of parameters: weights with decay, normalisation and biases without."""
    filters = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": filters, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _batches(count: int, options: TrainOptions, random: torch.Generator) -> Iterator[Tensor]:
    """Yield the clips of each step; each epoch is a permutation of all clips."""
    rounds = math.ceil(options.steps * options.batch_size / count)
    order = torch.cat([torch.randperm(count, generator=random) for _ in range(rounds)])
    yield from torch.split(order, options.batch_size)[: options.steps]


def _normalised(pixels: Tensor, plan: ViewPlan) -> Tensor:
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (plan.mean, plan.std))
    return (pixels - mean) / std


def main(argv: Sequence[str] | None = None) -> None:
    """Train both networks and print their files and accuracies."""
    options = read_options(TrainOptions, argv, prog="python -m demo.train_networks")
    with locked_folder(options.output_dir):
        for trained in train(options):
            print(f"{trained.path} top1 {trained.top1:.4f}")


if __name__ == "__main__":
    run(main)
