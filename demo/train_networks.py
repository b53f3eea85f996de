"""Train a small network on clips generated in memory, and its control, which cannot know the order of frames."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.examples import Examples, GeneratedClips, generate_examples
from demo.motion import GENERATOR_VERSION
from networks.checkpoints.checkpoint import save_mmaction2
from networks.loading import load_network
from postprocess.metrics import Proportion
from train.train_options import RunOptions
from train.training import train_on
from vidom.command import run
from vidom.errors import UsageError
from vidom.folder_lock import locked_folder
from vidom.formats.recipe import Recipe, recipe_option
from vidom.formats.recipe_parts.network_sections import TsmSection
from vidom.options import option, read_options

__all__ = ["TrainNetworksOptions", "Trained", "main", "train_networks"]

_log = logging.getLogger(__name__)

# Differs from the default seed of `generate`, whose validation clips are never used here.
_VALIDATION_SEED = 1


@dataclass(frozen=True, kw_only=True)
class TrainNetworksOptions:
    """Train a recipe's network on generated clips, and its control.

    The control of a TSM has no shift; that of another network sees the frames of each clip in random order.
    """

    recipe: Recipe = recipe_option()
    output_dir: Path = option("folder of both runs and their weights; the same command continues them")
    seed: int = option("seed of clips, weights and order", default=0)
    clips_per_class: int = option("training clips of each class", default=600)
    unseen_per_class: int = option("validation clips of each class", default=50)
    workers: int | None = option("processes that generate clips (default: one per core)", default=None)

    def __post_init__(self) -> None:
        if min(self.clips_per_class, self.unseen_per_class) < 1:
            raise UsageError("--clips_per_class and --unseen_per_class must be at least 1.")


@dataclass(frozen=True)
class Trained:
    """The file of a network's weights, its top-1 on unseen clips, and what its training took.

    `cpu_seconds` are those of all cores.
    """

    path: Path
    top1: Proportion
    seconds: float
    cpu_seconds: float

    @property
    def line(self) -> str:
        """All of it in a line."""
        return (
            f"{self.path} top1 {self.top1.value:.4f} ({self.top1.low:.4f} .. {self.top1.high:.4f}, n {self.top1.n}), "
            f"{self.seconds / 60:.1f} min, {self.cpu_seconds / 60:.1f} min of CPU time"
        )


def train_networks(options: TrainNetworksOptions) -> tuple[Trained, Trained]:
    """Write the weights of the network and of its control to the output folder and return both.

    Both are trained on the same clips in the same order. The same options, versions, number of threads and kind of
    processor give the same files; otherwise sums are computed in a different order, so that weights differ in their
    last bits at first and visibly after many steps, and the accuracy by noise. Raises UsageError for a recipe whose
    clips cannot be generated.
    """
    examples = generate_examples(
        options.recipe,
        "train",
        clips_per_class=options.clips_per_class,
        seed=options.seed,
        workers=options.workers,
    )
    unseen = generate_examples(
        options.recipe,
        "validation",
        clips_per_class=options.unseen_per_class,
        seed=_VALIDATION_SEED,
        workers=options.workers,
    )
    network, control = (_train_one(options, examples, unseen, control=control) for control in (False, True))
    return network, control


def _train_one(
    options: TrainNetworksOptions, examples: Examples, unseen: Examples, *, control: bool
) -> Trained:
    recipe, name = options.recipe, options.recipe.name
    shuffled = control and not isinstance(recipe.network, TsmSection)
    if control and not shuffled:
        recipe = recipe.model_copy(update={"network": recipe.network.model_copy(update={"shift": False})})
    folder = options.output_dir / ("control" if control else "network")
    began, cpu_began = time.monotonic(), time.process_time()
    outcome = train_on(
        GeneratedClips(examples, options.seed, scattered=True, shuffled=shuffled),
        RunOptions(recipe=recipe, output_dir=folder, seed=options.seed, workers=0),
        validation=GeneratedClips(unseen, options.seed, scattered=False, shuffled=shuffled),
        data_sha256=examples.sha256,
    )
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    path = options.output_dir / f"{name}{'_control' * control}.pth"
    network, _ = load_network(recipe, str(folder / "best.pth"))
    save_mmaction2(
        path,
        network,
        {"recipe": name, "generator": GENERATOR_VERSION, "seed": options.seed, "control": control},
    )
    correct = round((outcome.progress.best_top1 or 0.0) * len(unseen.labels))
    trained = Trained(path, Proportion.of(correct, len(unseen.labels)), seconds, cpu_seconds)
    _log.info(trained.line)
    return trained


def main(argv: Sequence[str] | None = None) -> None:
    """Train both networks and print their files and accuracies."""
    options = read_options(TrainNetworksOptions, argv, prog="python -m demo.train_networks")
    with locked_folder(options.output_dir):
        for trained in train_networks(options):
            print(trained.line)


if __name__ == "__main__":
    run(main)
