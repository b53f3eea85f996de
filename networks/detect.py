"""Detect the network of a checkpoint from the names and shapes of its tensors.

Properties that no shape depends on cannot be detected: the number of segments that TSM and PP-TSM were trained with,
the temporal strides of I3D, the input layout of StNet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from networks.checkpoints.checkpoint import Difference, Shape, differences, shapes_of
from networks.loading import build_network
from networks.training_config import Contradiction, contradictions
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe
from vidom.formats.recipe_parts.network_sections import I3dSection, PptsmSection, TsmSection
from vidom.wording import shown

__all__ = ["Detected", "Fit", "complete", "count_elements", "detect", "fit", "prefixes"]

Shapes = Mapping[str, Shape]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_STEMS = {
    **dict.fromkeys(("tsm", "i3d"), "backbone.conv1.conv.weight"),
    **{"pptsm": "backbone.conv1_3._conv.weight", "stnet": "conv1.weight"},
}
# Arguments that no shape depends on, with values that are valid for networks of any width.
_UNDETECTED: dict[str, dict[str, int]] = {"tsm": {"shift_div": 2}, "i3d": {}, "pptsm": {}, "stnet": {}}
# An empty array can have a shape of any width; that of a real network is far below.
_WIDEST = 1 << 20
_HEADS = {"tsm": "cls_head.fc_cls", "i3d": "cls_head.fc_cls", "pptsm": "head.fc", "stnet": "fc"}


@dataclass(frozen=True)
class Detected:
    """A network and those of its arguments that follow from shapes; `differences` is empty for a complete network.

    `networks.loading.build_network` accepts `arguments`; the others keep their defaults.
    """

    arch: str
    arguments: dict[str, Any]
    differences: tuple[Difference, ...]

    @property
    def title(self) -> str:
        """The network's usual name."""
        if self.arch == "tsm":
            return "TSM" if self.arguments["shift"] else "TSN (TSM without its shift)"
        return {"i3d": "I3D", "pptsm": "PP-TSM", "stnet": "StNet"}[self.arch]

    def build(self) -> nn.Module:
        """Return the network with random weights; arguments that no shape depends on have any valid value."""
        return build_network(self.arch, {**self.arguments, **_UNDETECTED[self.arch]})


@dataclass(frozen=True)
class Fit:
    """Whether a checkpoint fits a recipe: it does where `differences` and `contradictions` are empty.

    `arguments` are those that differ by the shapes: name, value in the recipe, value in the checkpoint;
    `contradictions` are the settings of the training that differ from the recipe.
    """

    recipe: str
    arguments: tuple[tuple[str, Any, Any], ...]
    differences: tuple[Difference, ...]
    contradictions: tuple[Contradiction, ...]

    @property
    def fits(self) -> bool:
        """Whether the recipe's network can be loaded from the checkpoint and is the one that was trained."""
        return not self.differences and not self.contradictions


def detect(shapes: Shapes) -> Detected | None:
    """Return the network with tensors of these names and shapes, or None where it is not one of the four.

    Among the variants with the same names (depth, inflation), the one with the fewest differences is returned.
    """
    arch = _arch(shapes)
    if arch is None:
        return None
    try:
        tried = [
            Detected(arch, arguments, differences(_shapes(arch, {**arguments, **_UNDETECTED[arch]}), shapes))
            for arguments in _candidates(arch, shapes)
        ]
    except UsageError:
        # No network accepts the width or the class count of these shapes.
        return None
    return min(tried, key=lambda one: len(one.differences), default=None)


def complete(detected: Detected | None, path: Path, starts: Iterable[str]) -> Detected:
    """Return `detected`; raise BadDataError where it is None or where the file at `path` lacks a part of the network.

    `starts` are those of the file's keys.
    """
    if detected is None:
        raise BadDataError(
            f"The checkpoint {path} is not of a supported network (TSM, TSN, I3D, PP-TSM, StNet): its keys start "
            f"with {shown(', '.join(starts))}. Use a checkpoint of one of those networks."
        )
    if detected.differences:
        raise BadDataError(
            f"The checkpoint {path} looks like {detected.title}, but {len(detected.differences)} of "
            "its keys are missing, unexpected or of a different shape. It holds a part of the network or a variant "
            "with other layers; use the file that the complete network was saved to."
        )
    return detected


def fit(detected: Detected, shapes: Shapes, recipe: Recipe, *, config: Mapping[str, Any]) -> Fit:
    """Return whether these tensors fit the recipe, whose network must be of the detected kind.

    `config` is the configuration of their training, {} without one. Whether StNet's temporal convolutions are depthwise
    is determined by the tensors, as on loading.
    """
    expected = recipe.network_arguments
    if "depthwise" in expected:
        expected["depthwise"] = detected.arguments["depthwise"]
    found = detected.arguments
    return Fit(
        recipe=recipe.name,
        arguments=tuple(
            (name, expected[name], value)
            for name, value in found.items()
            if name in expected and expected[name] != value
        ),
        differences=differences(_shapes(recipe.network.arch, expected), shapes),
        contradictions=contradictions(config, recipe),
    )


def count_elements(shapes: Shapes) -> tuple[int, int]:
    """Return the number of trained parameters and that of normalisation statistics with their counters."""
    trained = statistics = 0
    for key, shape in shapes.items():
        size = torch.Size(shape).numel()
        if key.endswith(_STATISTICS):
            statistics += size
        else:
            trained += size
    return trained, statistics


def prefixes(shapes: Shapes) -> dict[str, int]:
    """Return the number of keys by their first two parts, in the order of the file."""
    counts: dict[str, int] = {}
    for key in shapes:
        start = ".".join(key.split(".")[:2])
        counts[start] = counts.get(start, 0) + 1
    return counts


def _arch(shapes: Shapes) -> str | None:
    stem = shapes.get("backbone.conv1.conv.weight", ())
    if any(key.startswith(("temp1.", "xception.att_")) for key in shapes):
        return "stnet"
    if any(key.startswith(("backbone.bb_", "backbone.conv1_1._conv.")) for key in shapes):
        return "pptsm"
    residual = any(key.startswith("backbone.layer1.0.conv1.conv.") for key in shapes)
    return {4: "tsm", 5: "i3d"}.get(len(stem)) if residual else None


def _candidates(arch: str, shapes: Shapes) -> Iterator[dict[str, Any]]:
    bias = _size(shapes, f"{_HEADS[arch]}.bias", 0, default=1)
    known = {
        "num_classes": _size(shapes, f"{_HEADS[arch]}.weight", 0, default=bias),
        "base_channels": _size(shapes, _STEMS[arch], 0, default=64),
    }
    if max(known.values()) > _WIDEST:
        return
    match arch:
        case "tsm":
            known["shift"] = any(".conv.net." in key for key in shapes)
            yield from ({"depth": depth, **known} for depth in _depths(TsmSection))
        case "i3d":
            for depth in _depths(I3dSection):
                yield from ({"depth": depth, **known, "inflate_all": inflate} for inflate in (False, True))
        case "pptsm":
            yield from ({"depth": depth, **known} for depth in _depths(PptsmSection))
        case _:
            known["frames_per_segment"] = _size(shapes, _STEMS[arch], 1, default=15) // 3
            temporal = shapes.get("xception.att_conv.weight", ())
            yield {**known, "depthwise": len(temporal) == 4 and temporal[1] == 1}


def _size(shapes: Shapes, key: str, axis: int, *, default: int) -> int:
    shape = shapes.get(key, ())
    return shape[axis] if axis < len(shape) else default


def _depths(section: type[TsmSection | I3dSection | PptsmSection]) -> tuple[int, ...]:
    return get_args(section.model_fields["depth"].annotation)


def _shapes(arch: str, arguments: Mapping[str, object]) -> dict[str, Shape]:
    with torch.device("meta"):
        return shapes_of(build_network(arch, arguments).state_dict())
