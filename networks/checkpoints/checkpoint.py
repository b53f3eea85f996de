"""Checkpoints of mmaction2, read without executing them, and loaded completely or not at all.

The layout is that of `mmcv/runner/checkpoint.py` (0.x), `mmengine/runner/checkpoint.py` (1.x) and mmaction2's
`tools/deployment/publish_model.py`: a `torch.save` of {meta, state_dict, optimizer, ...}. A published file
has meta and state_dict only, and the first 8 digits of its SHA-256 in its name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from networks.checkpoints.torch_file import TorchFile, read_torch_file
from vidom.errors import BadDataError
from vidom.files import atomic_path, sha256_file

__all__ = [
    "Checkpoint",
    "Difference",
    "PlainValue",
    "Shape",
    "differences",
    "load_state",
    "read_mmaction2",
    "save_mmaction2",
    "shapes_of",
]

_log = logging.getLogger(__name__)

PlainValue = str | int | float | bool | None
Shape = tuple[int, ...]

_ROWS_SHOWN = 20
_KEY_SHOWN = 120
_HEADS = ("cls_head.fc_cls", "head.fc", "fc")
_CLASSIFIERS = tuple(f"{head}.{leaf}" for head in _HEADS for leaf in ("weight", "bias"))


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file for a network."""

    path: Path
    sha256: str
    meta: dict[str, PlainValue]
    """The texts and numbers of the file's `meta`, without its nested values."""
    state_dict: dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """A key whose shape in a network differs from that in a checkpoint; None where the key is absent."""

    key: str
    expected: Shape | None
    found: Shape | None


def read_mmaction2(path: Path | str) -> Checkpoint:
    """Return the weights in the .pth file of mmaction2 0.x or 1.x at `path`, under the network's own keys.

    A file with only a state dict is read too. The prefix `module.` of a parallel wrapper is removed.
    `data_preprocessor.*`, the normalisation that 1.x may store with the weights, is left out, because the recipe
    defines it; optimizer and message hub are not read. A hash in the file's name that does not match the file gives a
    warning, not an error.

    Raises UsageError when there is no such file, BadDataError when it is damaged, not a checkpoint or refers to code.
    """
    path = Path(path)
    file = read_torch_file(path)
    sha256 = sha256_file(path)
    suffix = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if suffix and suffix[1] != sha256[:8]:
        _log.warning(
            f"According to its name the SHA-256 of {path} starts with {suffix[1]}, but it starts with {sha256[:8]}: "
            "the file was changed after publication or downloaded incompletely."
        )
    content = file.content if isinstance(file.content, dict) else {}
    meta = content.get("meta")
    plain = meta.items() if isinstance(meta, dict) else ()
    return Checkpoint(
        path=path,
        sha256=sha256,
        meta={key: value for key, value in plain if isinstance(key, str) and isinstance(value, PlainValue)},
        state_dict=file.tensors(_entries(file)),
    )


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


def save_mmaction2(path: Path | str, network: nn.Module, meta: Mapping[str, PlainValue]) -> None:
    """Write a checkpoint of `network` in mmaction2's layout to `path`; equal weights and meta give equal bytes."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # With a name instead of a stream, torch would store that name in the file.
        torch.save({"meta": dict(meta), "state_dict": state}, stream)


def _entries(file: TorchFile) -> dict[str, Any]:
    content = file.content
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        kind = (
            f"one with the keys {list(content)}"
            if isinstance(content, dict)
            else f"a {type(content).__name__}"
        )
        raise BadDataError(
            f"The checkpoint {file.path} has no named weights: expected a dictionary with `state_dict`, as mmaction2 "
            f"writes it, or a plain state dict, but found {kind[:200]}. Use a .pth of mmaction2."
        )
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    if len(stripped) < len(state):
        raise BadDataError(
            f"The checkpoint {file.path} has a key both with and without the prefix `module.`."
        )
    return {key: value for key, value in stripped.items() if not key.startswith("data_preprocessor.")}


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
    shown = [(_printable(row.key), _shape(row.expected), _shape(row.found)) for row in rows[:_ROWS_SHOWN]]
    lines = [("key", "expected", "found"), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = [f"  {key:<{widths[0]}}  {expected:<{widths[1]}}  {found}" for key, expected, found in lines]
    if len(rows) > _ROWS_SHOWN:
        text.append(f"  and {len(rows) - _ROWS_SHOWN} more")
    return "\n".join(text)


def _shape(shape: Shape | None) -> str:
    return "-" if shape is None else str(list(shape))


def _printable(key: str) -> str:
    # A key comes from a file that may be hostile: it must neither flood nor control the terminal.
    return "".join(letter if letter.isprintable() else "?" for letter in key[:_KEY_SHOWN])
