"""Trains the demo's small TSM, and its control without the shift, on clips drawn in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo.examples import Examples, draw_examples
from demo.motion import GENERATOR_VERSION
from demo.symmetries import scatter
from networks.checkpoints.checkpoint import PlainValue, save_mmaction2
from networks.loading import build_network
from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe, load_recipe
from vidom.formats.views import ViewPlan
from vidom.progress import progress

__all__ = ["Settings", "Trained", "fit", "main", "predict", "train"]

_log = logging.getLogger(__name__)

# Validation clips of the seed that `generate` takes by default are never seen here, not even to choose settings.
_VALIDATION_SEED = 1
_FILES = {True: "tsm_demo.pth", False: "tsn_demo.pth"}


@dataclass(frozen=True)
class Settings:
    """How the networks are fitted and judged: AdamW with a one-cycle rate, each step on clips mirrored at random."""

    seed: int = 0
    clips_per_class: int = 600
    unseen_per_class: int = 50
    steps: int = 1500
    batch_size: int = 32
    rate: float = 3e-3
    decay: float = 0.05


@dataclass(frozen=True)
class Trained:
    """Where a network was written, and its top-1 on drawn validation clips that it was not fitted on."""

    path: Path
    top1: float


def train(
    *, output_dir: Path, settings: Settings | None = None, workers: int | None = None
) -> tuple[Trained, Trained]:
    """Return the TSM and its control after writing `tsm_demo.pth` and `tsn_demo.pth` into `output_dir`.

    Both see the same clips in the same order. Repeating with the same settings, versions, number of threads
    and kind of processor gives the same files; other threads or processors add in another order, so that
    weights differ in their last bits at first and visibly after many steps, and the accuracy by chance.
    """
    settings = settings or Settings()
    if min(settings.clips_per_class, settings.steps, settings.batch_size) < 1:
        raise UsageError("--clips_per_class, --steps and --batch_size must be at least 1.")
    recipe = load_recipe("tsm_demo")
    examples = draw_examples(
        "train",
        clips_per_class=settings.clips_per_class,
        plan=recipe.views,
        seed=settings.seed,
        workers=workers,
    )
    unseen = draw_examples(
        "validation",
        clips_per_class=settings.unseen_per_class,
        plan=recipe.views,
        seed=_VALIDATION_SEED,
        workers=workers,
    )
    tsm, control = (
        _train_one(recipe, examples, unseen, output_dir, settings, shift=shift) for shift in (True, False)
    )
    return tsm, control


def _train_one(
    recipe: Recipe, examples: Examples, unseen: Examples, output_dir: Path, settings: Settings, *, shift: bool
) -> Trained:
    torch.manual_seed(settings.seed)
    network = build_network("tsm", {**recipe.network_arguments, "shift": shift, "dropout": 0.0})
    label = "TSM" if shift else "control"
    with progress(total=settings.steps, unit="step", label=f"train {label}") as bar:
        for loss in fit(network, examples, plan=recipe.views, settings=settings):
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    correct = predict(network, unseen, plan=recipe.views).argmax(1) == torch.from_numpy(unseen.labels)
    trained = Trained(output_dir / _FILES[shift], correct.double().mean().item())
    _log.info(f"{label}: top-1 {trained.top1:.4f} on {len(correct)} unseen clips, written to {trained.path}")
    meta: dict[str, PlainValue] = {
        "recipe": recipe.name,
        "shift": shift,
        "generator": GENERATOR_VERSION,
        "seed": settings.seed,
        "steps": settings.steps,
    }
    save_mmaction2(trained.path, network, meta)
    return trained


def fit(network: nn.Module, examples: Examples, *, plan: ViewPlan, settings: Settings) -> Iterator[float]:
    """Yield the loss of each training step; after the last one `network` is fitted to the examples."""
    random = torch.Generator().manual_seed(settings.seed)
    clips, labels = torch.from_numpy(examples.clips), torch.from_numpy(examples.labels)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(network, settings.decay), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps, pct_start=0.15
    )
    for chosen in _batches(len(clips), settings, random):
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
    """Return the parameters in two groups: filters decay, normalisation and biases do not."""
    filters = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": filters, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _batches(count: int, settings: Settings, random: torch.Generator) -> Iterator[Tensor]:
    """Yield the clips of each step; all are seen once before any is seen again."""
    rounds = math.ceil(settings.steps * settings.batch_size / count)
    order = torch.cat([torch.randperm(count, generator=random) for _ in range(rounds)])
    yield from torch.split(order, settings.batch_size)[: settings.steps]


def _normalised(pixels: Tensor, plan: ViewPlan) -> Tensor:
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (plan.mean, plan.std))
    return (pixels - mean) / std


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, train both networks, and print their files and accuracies."""
    default = Settings()
    parser = Parser(description="Train the demo's TSM and its control without the shift.")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("demo/checkpoints"), help="folder of the files"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of clips, weights and order")
    parser.add_argument(
        "--clips_per_class", type=int, default=default.clips_per_class, help="clips to fit on"
    )
    parser.add_argument("--steps", type=int, default=default.steps, help="optimizer steps")
    parser.add_argument("--batch_size", type=int, default=default.batch_size, help="clips a step")
    parser.add_argument("--workers", type=int, help="processes that draw; one per core if not given")
    given = vars(parser.parse_args(argv))
    output_dir, workers = given.pop("output_dir"), given.pop("workers")
    for trained in train(output_dir=output_dir, settings=Settings(**given), workers=workers):
        print(f"{trained.path} top1 {trained.top1:.4f}")


if __name__ == "__main__":
    run(main)
