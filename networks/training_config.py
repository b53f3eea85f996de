"""Compare the configuration that mmcv and mmengine store with a checkpoint with a recipe.

What no shape depends on, such as TSM's number of segments, only the configuration shows. Nothing in it is executed:
`Config.pretty_text` writes assignments of literals and of `dict(...)`, and anything else in the text counts as None.
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from networks.checkpoints.checkpoint import Checkpoint
from vidom.formats.recipe import Recipe
from vidom.formats.recipe_parts.network_sections import I3dSection, TsmSection
from vidom.wording import shown

__all__ = ["Contradiction", "contradictions", "read_config"]

_log = logging.getLogger(__name__)

# The configurations of mmaction2 have up to 10,000 characters.
_LONGEST = 100_000
_LARGEST = 1 << 31
_SAMPLERS = ("SampleFrames", "DenseSampleFrames")
_PIPELINES = (
    "train_pipeline",
    *("data.train.pipeline", "data.train.dataset.pipeline"),
    *("train_dataloader.dataset.pipeline", "train_dataloader.dataset.dataset.pipeline"),
)


@dataclass(frozen=True)
class Contradiction:
    """A setting of the training that differs from the recipe's entry `key`, such as views.num_segments."""

    key: str
    trained: object
    expected: object

    def __str__(self) -> str:
        return f"trained with {self.name} {_text(self.trained)}, the recipe has {_text(self.expected)}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def option(self) -> str:
        """The option that gives the recipe the value of the training, empty where recipes have no such entry."""
        return f"--set {self.key}={_text(self.trained)}" if "." in self.key else ""


def _text(value: object) -> str:
    return shown(list(value) if isinstance(value, tuple) else value).replace(" ", "")


def read_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the configuration in the checkpoint as data, {} without one; a text that is none gives a warning."""
    if checkpoint.config is None or isinstance(checkpoint.config, dict):
        return checkpoint.config or {}
    try:
        return _assignments(checkpoint.config)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        _log.warning(
            f"The training configuration in {checkpoint.path} cannot be read ({shown(error)}), and is not compared "
            "with the recipe."
        )
        return {}


def contradictions(document: Mapping[str, Any], recipe: Recipe) -> tuple[Contradiction, ...]:
    """Return where the configuration of a training contradicts the recipe.

    Settings that it does not state have mmaction2's defaults where the network depends on them, else they are not
    compared.
    """
    stated = dict.fromkeys(
        (key, found, expected)
        for key, value, expected in (*_network_settings(document, recipe), *_view_settings(document, recipe))
        if (found := _plain(value)) is not None and found != expected
    )
    return tuple(Contradiction(*one) for one in stated)


def _network_settings(document: Mapping[str, Any], recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    backbone, head = _at(document, "model.backbone"), _at(document, "model.cls_head")
    network = recipe.network
    yield "dataset.num_classes", _at(head, "num_classes"), recipe.dataset.num_classes
    if isinstance(network, TsmSection | I3dSection):
        yield "network.depth", _at(backbone, "depth"), network.depth
    if isinstance(network, I3dSection):
        yield "network.conv1_stride_t", _at(backbone, "conv1_stride_t"), network.conv1_stride_t
        yield "network.pool1_stride_t", _at(backbone, "pool1_stride_t"), network.pool1_stride_t
    if isinstance(network, TsmSection) and network.shift:
        default = 8 if _type(backbone) == "ResNetTSM" else None
        yield "views.num_segments", _at(backbone, "num_segments", default), recipe.views.num_segments
        yield "views.num_segments", _at(head, "num_segments"), recipe.views.num_segments
        yield "network.shift_div", _at(backbone, "shift_div", default), network.shift_div
        yield "temporal_pool", _at(backbone, "temporal_pool"), False


def _view_settings(document: Mapping[str, Any], recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    views = recipe.views
    pipeline = next((one for path in _PIPELINES if isinstance(one := _at(document, path), list)), [])
    steps = {_type(step): step for step in pipeline}
    sampler: dict[str, Any] = next((steps[name] for name in _SAMPLERS if name in steps), {})
    yield "views.clip_len", _at(sampler, "clip_len"), views.clip_len
    if views.clip_len > 1:
        yield "views.frame_interval", _at(sampler, "frame_interval"), views.frame_interval
    if isinstance(recipe.network, TsmSection) and recipe.network.shift:
        yield "views.num_segments", _at(sampler, "num_clips"), views.num_segments
    if views.pixel_scale == 1:
        normalising = steps.get("Normalize") or _at(document, "model.data_preprocessor")
        yield "views.mean", _at(normalising, "mean"), views.mean
        yield "views.std", _at(normalising, "std"), views.std


def _at(document: Any, path: str, default: Any = None) -> Any:
    for part in path.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return default if document is None else document


def _type(step: Any) -> str:
    """Return the name of the class without the scope of its registry."""
    name = _at(step, "type")
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def _plain(value: Any) -> object:
    """Return a number, or a tuple of three, as in a recipe; None for anything else, which is not compared."""
    if isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_number, value)):
        return tuple(map(float, value))
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST


def _assignments(text: object) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError(f"it is not a text of at most {_LONGEST} characters")
    with warnings.catch_warnings():
        # About escapes in the text, whose author is not here.
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    values: dict[str, Any] = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value, values)
    return values


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=found):
            return found
        case ast.Name(id=name):
            return names.get(name)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, names) for item in items]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {
                key.value: _value(value, names)
                for key, value in pairs
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {entry.arg: _value(entry.value, names) for entry in keywords if entry.arg}
    return None
