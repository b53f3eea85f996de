"""What small networks learn on clips that only the order of frames distinguishes: `python -m benchmarks.learning`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring.report import Report, Table, Target, reported, write_report
from benchmarks.measuring.settings import machine_state, under_fair_settings
from demo.train_networks import Trained, TrainNetworksOptions, train_networks
from vidom.command import run
from vidom.errors import ExitCode
from vidom.formats.recipe import Recipe, load_recipe
from vidom.options import option, read_options

__all__ = ["LearningOptions", "learning", "main", "report"]

_RECIPES = Path("demo/recipes")
# The generator's seed and the training clips of each class for each recipe.
_CLIPS = {
    "tsm_demo": (0, 600),
    f"{_RECIPES}/tsm_phases.yaml": (2, 300),
    f"{_RECIPES}/i3d_phases.yaml": (2, 300),
}
_REQUIRED_TOP1 = 0.95
_MINUTES = 30


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """Train small networks and their controls on generated clips and report what they learn."""

    recipes: tuple[str, ...] = option("recipes of the demo, by name or path", default=tuple(_CLIPS))
    output_dir: Path = option("folder of the report", default=Path("run/bench"))


def learning(options: LearningOptions) -> Report:
    """Write `learning.md` and `.json`: top-1 of each network and of its control on unseen clips, and the time taken."""
    pairs = []
    for name in options.recipes:
        seed, clips = _CLIPS.get(name, (0, 600))
        with TemporaryDirectory() as folder:
            words = TrainNetworksOptions(
                recipe=load_recipe(name), output_dir=Path(folder), seed=seed, clips_per_class=clips
            )
            pairs.append((words.recipe, *train_networks(words)))
    made = report(pairs)
    write_report(made, options.output_dir)
    return made


def report(pairs: Sequence[tuple[Recipe, Trained, Trained]]) -> Report:
    """Return the report of networks and their controls."""
    rows = [
        (
            recipe.name,
            kind,
            trained.top1.value,
            f"{trained.top1.low:.4f} .. {trained.top1.high:.4f}",
            trained.top1.n,
            trained.seconds / 60,
            trained.cpu_seconds / 60,
        )
        for recipe, network, control in pairs
        for kind, trained in (("network", network), ("control", control))
    ]
    targets = []
    for recipe, network, control in pairs:
        if recipe.name == "tsm_demo":
            targets.append(Target(f"{recipe.name}: top-1", network.top1.value, _REQUIRED_TOP1))
        targets += [
            Target(
                f"{recipe.name}: lower end of the interval over the upper end of the control's",
                network.top1.low / control.top1.high,
                1,
            ),
            Target(f"{recipe.name}: minutes", network.seconds / 60, _MINUTES, at_least=False),
        ]
    return Report(
        name="learning",
        question="What do small networks learn about clips that only the order of frames distinguishes?",
        tables=[
            Table(
                "Top-1 on unseen clips",
                ["recipe", "", "top-1", "95 % interval", "n", "minutes", "minutes of CPU time"],
                rows,
                "Twelve classes each, two for each of six motions. The control of a TSM has no shift: chance is 1/12. "
                "That of an I3D sees the frames in random order, which shows the motion but not its direction: at "
                "most 1/2. Minutes are those of training with its validation, the generation of clips left out.",
            )
        ],
        targets=targets,
        conditions=machine_state(),
    )


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Train all, print the report; 1 if a target is missed."""
    return reported(learning, read_options(LearningOptions, argv, prog="python -m benchmarks.learning"))


if __name__ == "__main__":
    under_fair_settings()
    run(main)
