"""The contents of a checkpoint file, loaded completely or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidom.errors import BadDataError
from vidom.files import atomic_path
from vidom.wording import shown

__all__ = [
    "Checkpoint",
    "Difference",
    "PlainValue",
    "Shape",
    "differences",
    "load_state",
    "plain_values",
    "save_mmaction2",
    "shapes_of",
]

PlainValue = str | int | float | bool | None
Shape = tuple[int, ...]

_ROWS_SHOWN = 20
_KEY_SHOWN = 120
_INTEGER_BITS = 64
_HEADS = ("cls_head.fc_cls", "head.fc", "fc")
_CLASSIFIERS = tuple(f"{head}.{leaf}" for head in _HEADS for leaf in ("weight", "bias"))


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a checkpoint file under the keys of the networks, and what else the file says.

    `framework` is that of a recipe's checkpoint (mmaction2, paddle, mindspore), or torch for other programs of torch.
    `layout` is a text such as "zip archive; state_dict and meta"; `meta` holds the texts and numbers of the file's
    `meta`, and `config` what is there as the configuration of the training program, None without one. `notes` are
    phrases about what was left out or renamed.
    """

    path: Path
    sha256: str
    framework: str
    layout: str
    meta: dict[str, PlainValue]
    state_dict: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    config: object = None


@dataclass(frozen=True)
class Difference:
    """A key whose shape in a network differs from that in a checkpoint; None where the key is absent."""

    key: str
    expected: Shape | None
    found: Shape | None


def plain_values(entries: Mapping[Any, object]) -> dict[str, PlainValue]:
    """Return the texts and numbers among the entries; an integer of a pickle may have any number of digits."""
    return {
        key: value
        for key, value in entries.items()
        if isinstance(key, str)
        and isinstance(value, PlainValue)
        and not (isinstance(value, int) and value.bit_length() > _INTEGER_BITS)
    }


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Set every parameter and buffer of `network` to its value in `tensors`.

    `num_batches_tracked`, which is used in training only, may be absent. Raises BadDataError, with `source` and a
    table of the keys that are missing, unexpected or of a different shape; the network is then unchanged.
    """
    state: dict[str, Tensor] = network.state_dict()
    rows = differences(shapes_of(state), shapes_of(tensors))
    if rows:
        raise BadDataError(f"{_verdict(rows, source=source)}\n{_table(rows)}")
    network.load_state_dict({**state, **tensors})


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of the tensors under the same names, in the same order."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def differences(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> tuple[Difference, ...]:
    """Return where the shapes `found` in a checkpoint differ from those `expected` by a network.

    The network's keys come first, in its order. `num_batches_tracked`, which is used in training only, may be absent.
    """
    keys = [*expected, *(key for key in found if key not in expected)]
    return tuple(
        Difference(key, expected.get(key), found.get(key))
        for key in keys
        if expected.get(key) != found.get(key) and (key in found or not key.endswith("num_batches_tracked"))
    )


def save_mmaction2(
    path: Path | str,
    network: nn.Module,
    meta: Mapping[str, Any],
    *,
    optimizer: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint of `network` in mmaction2's layout to `path`; equal contents give equal bytes.

    `optimizer` is the state dict of its optimizer. Tensors are stored on the CPU. Raises OSError where the disk is
    full; what was at `path` stays then.
    """
    content = {"meta": dict(meta), "state_dict": dict(network.state_dict())}
    if optimizer is not None:
        content["optimizer"] = dict(optimizer)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            # With a name instead of a stream, torch would store that name in the file.
            torch.save(_on_cpu(content), stream)
        except RuntimeError as error:
            # Where the system refuses to write, torch complains about its own unfinished archive.
            raise error.__context__ if isinstance(error.__context__, OSError) else error  # noqa: B904


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return value


def _verdict(rows: Sequence[Difference], *, source: str) -> str:
    if all(_is_class_count(row) for row in rows):
        found, expected = (shape[0] if shape else 0 for shape in (rows[0].found, rows[0].expected))
        first = f"{source} has {found} classes, the recipe has {expected}."
        advice = "Use the checkpoint of the recipe's data set, or fix the recipe's class count."
    else:
        missing = sum(row.found is None for row in rows)
        unexpected = sum(row.expected is None for row in rows)
        first = (
            f"{source} does not fit the recipe's network: keys missing: {missing}, "
            f"unexpected: {unexpected}, of a different shape: {len(rows) - missing - unexpected}."
        )
        advice = "Check that the recipe has the network and arguments that the checkpoint was trained with."
    return f"{first} Nothing was loaded. {advice}"


def _is_class_count(row: Difference) -> bool:
    if row.key not in _CLASSIFIERS or not row.found or not row.expected:
        return False
    return row.found[1:] == row.expected[1:]


def _table(rows: Sequence[Difference]) -> str:
    cells = [
        (shown(row.key, _KEY_SHOWN), _shape(row.expected), _shape(row.found)) for row in rows[:_ROWS_SHOWN]
    ]
    lines = [("key", "expected", "found"), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = [f"  {key:<{widths[0]}}  {expected:<{widths[1]}}  {found}" for key, expected, found in lines]
    if len(rows) > _ROWS_SHOWN:
        text.append(f"  and {len(rows) - _ROWS_SHOWN} more")
    return "\n".join(text)


def _shape(shape: Shape | None) -> str:
    return "-" if shape is None else str(list(shape))
