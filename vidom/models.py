"""List the recipes of vidom, their published numbers and where to download their weights: `python -m vidom.models`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidom.command import Parser, run
from vidom.formats.recipe import Published, Recipe, load_recipe, recipe_folder, recipe_names

__all__ = ["Model", "as_text", "main", "models"]


@dataclass(frozen=True)
class Model:
    """A recipe, and the path of its checkpoint if a file of that name exists here."""

    recipe: Recipe
    checkpoint: Path | None


def models(*, names: Iterable[str] = (), folders: Iterable[Path] | None = None) -> tuple[Model, ...]:
    """Return the recipes of these names, all of them by default, each with its checkpoint if that is here.

    A checkpoint is looked for by its file name in `folders`, by default the current one, `checkpoints` in it and the
    checkout; it is not opened. Raises UsageError as `load_recipe` does.
    """
    here = (Path(), Path("checkpoints"), recipe_folder().parent) if folders is None else tuple(folders)
    found = []
    for name in tuple(names) or recipe_names():
        recipe = load_recipe(name)
        paths = (folder / recipe.checkpoint.file for folder in here)
        found.append(Model(recipe, next((path for path in paths if path.is_file()), None)))
    return tuple(found)


def as_text(model: Model) -> str:
    """Return a description of the model in several lines, the first of them its name and summary."""
    recipe = model.recipe
    size = " x ".join(map(str, recipe.input_shape(1)[1:]))
    lines = [
        ("network", _network(recipe)),
        ("input", f"batch x {size} ({recipe.views.arithmetic})"),
        ("output", f"batch x {recipe.dataset.num_classes} {_scores(recipe)}"),
        *_published(recipe.published),
        ("weights", f"{recipe.checkpoint.file} ({recipe.checkpoint.framework})"),
        ("", f"here: {model.checkpoint}" if model.checkpoint else "not here"),
    ]
    if recipe.checkpoint.url:
        lines.append(("", recipe.checkpoint.url))
    return "\n".join([f"{recipe.name}: {recipe.summary}", *(f"  {name:<10}{value}" for name, value in lines)])


def _network(recipe: Recipe) -> str:
    """Return the network and the settings in which it is not its section's default, and its depth."""
    section = recipe.network
    fields = type(section).model_fields
    settings = [
        f"{name} {value}"
        for name, value in section.model_dump(exclude={"arch"}).items()
        if name == "depth" or value != fields[name].default
    ]
    return ", ".join((section.arch, *settings))


def _scores(recipe: Recipe) -> str:
    kind = "probabilities" if recipe.head.softmax else "logits"
    if recipe.views.clips == 1:
        return kind
    averaged = "logits" if recipe.head.average_clips == "score" else "probabilities"
    return f"{kind}, {averaged} averaged over {recipe.views.clips} clips"


def _published(entries: Sequence[Published]) -> Iterator[tuple[str, str]]:
    if not entries:
        yield "published", "nothing"
    for place, entry in enumerate(entries):
        top5 = "" if entry.top5 is None else f", top-5 {100 * entry.top5:.2f}"
        chip = "" if entry.chip is None else f", on {entry.chip}"
        accuracy = f"top-1 {100 * entry.top1:.2f}{top5}, averaging {entry.average_clips}{chip}"
        yield "" if place else "published", f"{accuracy} ({entry.source})"
        if entry.fps:
            rates, batches = (" / ".join(map(str, side)) for side in (entry.fps.values(), entry.fps))
            yield "", f"{rates} samples a second at batch {batches}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the recipes."""
    parser = Parser(
        description="List the recipes, their published numbers and where to download their weights. top-1 and top-5 "
        "are in percent and were published by others; prob and score are methods of averaging the clips of a sample."
    )
    parser.add_argument("--recipe", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    options = parser.parse_args(argv)
    print("\n\n".join(as_text(model) for model in models(names=options.recipe)))


if __name__ == "__main__":
    run(main)
