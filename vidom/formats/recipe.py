"""The recipe: one YAML file that says everything about one deployable model.

Whatever can be derived from the recipe (frames per sample, tensor shapes, the network's segment and class
counts) is a property here and is never typed a second time.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from vidom.bounded_reading import read_lines
from vidom.errors import BadDataError, UsageError
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.recipe_parts.network_sections import NetworkSection
from vidom.formats.recipe_parts.recipe_document import parse_value, read_document
from vidom.formats.recipe_parts.recipe_faults import explain, is_text
from vidom.formats.recipe_parts.train_section import TrainSection
from vidom.formats.views import ViewPlan
from vidom.options import group
from vidom.wording import shown

__all__ = [
    "AverageClips",
    "Checkpoint",
    "Dataset",
    "Head",
    "Published",
    "Recipe",
    "RecipeGroup",
    "load_recipe",
    "recipe_folder",
    "recipe_names",
    "recipe_option",
]

AverageClips = Literal["prob", "score"]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[int, Field(gt=0, le=1_000_000)]
Line = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
_SHOWN_FAULTS = 20
# Of keys above an overridden one: train.augmentation.crop.scales.
_DEPTH = 3


def _is_path(text: str) -> str:
    if max(map(len, os.fsencode(text).split(b"/"))) > 255:
        raise ValueError("must be a path whose names have at most 255 bytes each")
    return text


FilePath = Annotated[Line, AfterValidator(_is_path)]


def _is_template(text: str) -> str:
    if not _TEMPLATE.fullmatch(text):
        raise ValueError(
            "must be a file name with exactly one number such as {:05} or {}, of at most 12 digits, without a slash"
        )
    return text


_TEMPLATE = re.compile(r"[^/{}\x00-\x1f\x7f]*\{(:0?([1-9]|1[0-2])?d?)?\}[^/{}\x00-\x1f\x7f]*")
# A letter has up to four bytes, a file name 255.
FrameTemplate = Annotated[str, Field(max_length=60), AfterValidator(_is_template)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Checkpoint(_Section):
    """Where the weights come from and how they are laid out."""

    framework: Literal["mmaction2", "paddle", "mindspore"]
    file: FilePath
    url: Line | None = None


class Dataset(_Section):
    """What the classes mean and what the frames on disk are called.

    `frame_template` is a file name with one number; that of the first frame is `first_frame`, 0 or 1, which each
    folder shows by itself where it is left out.
    """

    name: Name
    num_classes: Positive
    labels: FilePath
    frame_template: FrameTemplate = "img_{:05}.jpg"
    first_frame: Literal[0, 1] | None = None

    @property
    def frame_naming(self) -> FrameNaming:
        """What the files in a folder of frames are called."""
        return FrameNaming(self.frame_template, self.first_frame)

    @property
    def info_name(self) -> str:
        """The name of the `index label` list that ModelZoo's scripts read."""
        return f"{self.name}.info"


class Head(_Section):
    """What follows the per-clip logits: softmax, and how a sample's clips become one row.

    `score` averages logits and then takes softmax; `prob` takes softmax of each clip and averages the
    probabilities (mmaction2's `average_clips`).
    """

    softmax: bool = True
    average_clips: AverageClips


class Published(_Section):
    """A published accuracy, the averaging method it belongs to, and its source."""

    average_clips: AverageClips
    top1: Fraction
    top5: Fraction | None = None
    chip: Line | None = None
    fps: dict[Positive, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    source: Line


class Recipe(_Section):
    """Everything about one deployable model; see the class of each section."""

    name: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_]+$")]
    summary: Line
    network: NetworkSection
    checkpoint: Checkpoint
    dataset: Dataset
    views: ViewPlan
    head: Head
    published: tuple[Published, ...] = ()
    train: TrainSection | None = None

    @model_validator(mode="after")
    def _network_takes_the_layout(self) -> Recipe:
        if self.views.layout not in self.network.layouts:
            raise ValueError(
                f"the network {self.network.arch} takes views.layout {' or '.join(self.network.layouts)}, "
                f"found {self.views.layout}"
            )
        return self

    @property
    def network_arguments(self) -> dict[str, Any]:
        """The keyword arguments of the network's constructor, `arch` left out."""
        return {**self.network.arguments(self.views), "num_classes": self.dataset.num_classes}

    def one_view(self) -> Recipe:
        """Return the recipe of the same network given one view of a sample at a time, a row for each.

        Rows are what is averaged: probabilities where `average_clips` is "prob", logits where it is "score" and
        softmax comes after the average, whatever `head.softmax` says. The view plan has the shape of one view;
        which frames and crops each view shows, only the complete recipe defines. Raises UsageError when a sample is one
        view already.
        """
        if self.views.clips == 1:
            raise UsageError(
                f"A sample of the recipe {self.name} is a single view already ({self.views.arithmetic}). Leave "
                "--per_view out."
            )
        head = self.head.model_copy(update={"softmax": self.head.average_clips == "prob"})
        return self.model_copy(update={"views": self.views.one_view, "head": head})

    def input_shape(self, batch_size: int) -> tuple[int, ...]:
        """Return the model's input shape, e.g. (8, 48, 3, 256, 256)."""
        return (batch_size, *self.views.sample_shape)

    def output_shape(self, batch_size: int) -> tuple[int, int]:
        """Return the model's output shape, e.g. (8, 174)."""
        return (batch_size, self.dataset.num_classes)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Do nothing if `shape` is an input shape of this recipe, else raise UsageError with the arithmetic."""
        if len(shape) and tuple(shape) == self.input_shape(shape[0]) and shape[0] > 0:
            return
        found = "x".join(map(str, shape))
        raise UsageError(
            f"--shape {found} contradicts the recipe {self.name}: {self.views.arithmetic}, so the input is "
            f"batch x {' x '.join(map(str, self.views.sample_shape))}. Leave --shape out, or change the view "
            "plan, e.g. --set views.crop=center."
        )

    def labels(self) -> tuple[str, ...]:
        """Return the class names in the order of their ids.

        Raises UsageError when the label file cannot be read or does not hold one name for each class.
        """
        path = recipe_folder() / self.dataset.labels
        try:
            names = read_lines(path, what=f"label file of the recipe {self.name}")
        except BadDataError as error:
            raise UsageError(str(error)) from None
        if len(names) != self.dataset.num_classes:
            raise UsageError(
                f"The label file {path} of the recipe {self.name} names {len(names)} classes, but the recipe "
                f"has num_classes {self.dataset.num_classes}. Correct the one that is wrong."
            )
        return names

    @property
    def training(self) -> tuple[TrainSection, ViewPlan]:
        """The train section, and the view plan of training and validation.

        Raises UsageError for a recipe without a train section, and for crops that do not fit into its frames.
        """
        if self.train is None:
            raise UsageError(
                f"The recipe {self.name} has no train section, which says how its network is trained. Add one, or "
                "choose a recipe that has it."
            )
        # Only training is impossible then; other commands may change the sizes of the views alone.
        if self.train.crop_size > self.views.short_side:
            raise UsageError(
                f"In the recipe {self.name}, train.crop_size {self.train.crop_size} does not fit into views.short_side "
                f"{self.views.short_side}. Change one of them."
            )
        return self.train, self.train.views(self.views)

    @property
    def digest(self) -> str:
        """A SHA-256 over all settings but those of training, the same wherever they were written."""
        document = self.model_dump(exclude={"train"})
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class RecipeGroup:
    """The option group that builds a Recipe from `--recipe` and any number of `--set`."""

    required: ClassVar[bool] = True

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to the parser."""
        known = "name in om_models/, or path of a .yaml file"
        parser.add_argument("--recipe", required=self.required, default=argparse.SUPPRESS, help=known)
        parser.add_argument(
            "--set",
            action="append",
            default=argparse.SUPPRESS,
            metavar="KEY=VALUE",
            help="override a recipe entry, such as head.average_clips=prob; may be repeated",
        )

    def build(self, given: dict[str, Any]) -> Recipe:
        """Return the recipe that the options in `given` name, removing them. Raises UsageError as `load_recipe`."""
        return load_recipe(given.pop("recipe"), given.pop("set", ()))


class _OptionalRecipeGroup(RecipeGroup):
    required = False

    def build(self, given: dict[str, Any]) -> Recipe | None:  # type: ignore[override]
        """Return the recipe, None where none is named; UsageError for `--set` without one."""
        if "recipe" in given:
            return super().build(given)
        if "set" in given:
            raise UsageError("--set changes entries of a recipe; name it with --recipe (make: MODEL=NAME).")
        return None


def recipe_option(*, required: bool = True) -> Any:
    """Return a dataclass field of type Recipe that is read from `--recipe` and any number of `--set`.

    With `required=False` it is None where no recipe is given.
    """
    return group(RecipeGroup()) if required else group(_OptionalRecipeGroup(), default=None)


def recipe_folder() -> Path:
    """Return the folder `om_models` that holds the recipes."""
    return Path(__file__).resolve().parents[2] / "om_models"


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with vidom."""
    return tuple(sorted(path.stem for path in recipe_folder().glob("*.yaml")))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the validated recipe of that name in `om_models`, or of that path if it ends in `.yaml`.

    `overrides` are `section.key=value` texts, of deeper keys too (`train.schedule.milestones=[20,40]`). The value of an
    entry that is a text is taken as it is, any other is read as YAML. All faults are reported at once in one
    UsageError; an unknown key names the nearest known one.
    """
    path = _recipe_path(name_or_path)
    document = read_document(path)
    for override in overrides:
        _override(document, override)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        faults = [f"  {explain(fault, Recipe)}" for fault in error.errors(include_url=False)[:_SHOWN_FAULTS]]
        if error.error_count() > _SHOWN_FAULTS:
            faults.append(f"  and {error.error_count() - _SHOWN_FAULTS} more")
        listed = "\n".join(faults)
        raise UsageError(f"The recipe {path} has {error.error_count()} fault(s):\n{listed}") from None


def _recipe_path(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    if name_or_path not in recipe_names():
        near = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
        raise UsageError(
            f"There is no recipe named {shown(name_or_path)!r} in {recipe_folder()}"
            + (f"; did you mean {near[0]!r}?" if near else ".")
            + f" Known: {', '.join(recipe_names())}. A path to a .yaml file is accepted too."
        )
    return recipe_folder() / f"{name_or_path}.yaml"


def _override(document: dict[str, Any], text: str) -> None:
    dotted, equals, value = text.partition("=")
    *parents, leaf = dotted.split(".")
    if not equals or not dotted or len(parents) > _DEPTH:
        raise UsageError(
            f"--set {shown(text)!r} is not of the form section.key=value, e.g. head.average_clips=prob."
        )
    section: Any = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UsageError(f"--set {shown(text)!r}: {shown(parent)!r} is not a section of the recipe.")
    try:
        section[leaf] = _unquoted(value) if is_text([*parents, leaf], Recipe) else parse_value(value)
    except ValueError as error:
        raise UsageError(f"--set {shown(text)!r}: the value cannot be read: {error}") from None


def _unquoted(text: str) -> str:
    """Return the text without the quotes that YAML would require around it."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
