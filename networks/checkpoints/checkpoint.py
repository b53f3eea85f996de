"""Checkpoints as mmaction2 writes them, read without running them and loaded whole or not at all.

The layout is that of `mmcv/runner/checkpoint.py` (0.x), `mmengine/runner/checkpoint.py` (1.x) and mmaction2's
`tools/deployment/publish_model.py`: a `torch.save` of {meta, state_dict, optimizer, ...}. A published file
keeps meta and state_dict and carries the first 8 digits of its SHA-256 in its name.
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
    """What a checkpoint file holds for a network."""

    path: Path
    sha256: str
    meta: dict[str, PlainValue]
    """The texts and numbers of the file's `meta`; its nested values are left out."""
    state_dict: dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """A key whose shape in a network is not that in a checkpoint; None where it is absent."""

    key: str
    wanted: Shape | None
    found: Shape | None


def read_mmaction2(path: Path | str) -> Checkpoint:
    """Return the weights in the .pth file of mmaction2 0.x or 1.x at `path`, under the network's own keys.

    A file with nothing but a state dict is read too. `module.`, which a parallel wrapper puts before its keys,
    is taken away. `data_preprocessor.*`, the normalisation that 1.x may keep beside the weights, is left out,
    because the recipe says it; optimizer and message hub are not read. A hash in the file's name that is not
    the file's is told on the log, not refused.

    Raises UsageError when there is no such file, BadDataError when it is damaged, no checkpoint or names code.
    """
    path = Path(path)
    file = read_torch_file(path)
    sha256 = sha256_file(path)
    suffix = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if suffix and suffix[1] != sha256[:8]:
        _log.info(
            f"warning: the name of {path} says that its SHA-256 begins with {suffix[1]}, but it begins with "
            f"{sha256[:8]}: the file was changed after its publication or not downloaded whole."
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
    """Every parameter and buffer of `network` has the value that `tensors` gives it.

    `num_batches_tracked`, which acts in training only, may be absent. Raises BadDataError, with `source` and a
    table of the keys that are missing, unexpected or of another shape, and then leaves the network as it was.
    """
    state: dict[str, Tensor] = network.state_dict()
    rows = differences(shapes_of(state), shapes_of(tensors))
    if rows:
        raise BadDataError(f"{_verdict(rows, source=source)}\n{_table(rows)}")
    network.load_state_dict({**state, **tensors})


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of the tensors under the same names, in the same order."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def differences(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> tuple[Difference, ...]:
    """Return where the shapes `found` in a checkpoint are not those `wanted` by a network.

    The network's keys come first, in its order. `num_batches_tracked`, which acts in training only, may be absent.
    """
    keys = [*wanted, *(key for key in found if key not in wanted)]
    return tuple(
        Difference(key, wanted.get(key), found.get(key))
        for key in keys
        if wanted.get(key) != found.get(key) and (key in found or not key.endswith("num_batches_tracked"))
    )


def save_mmaction2(path: Path | str, network: nn.Module, meta: Mapping[str, PlainValue]) -> None:
    """`path` is a checkpoint of `network` in mmaction2's layout; equal weights and meta give equal bytes."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # Given a name instead of a stream, torch would write that name into the file.
        torch.save({"meta": dict(meta), "state_dict": state}, stream)


def _entries(file: TorchFile) -> dict[str, Any]:
    content = file.content
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        kind = f"one with the keys {list(content)}" if isinstance(content, dict) else "another object"
        raise BadDataError(
            f"The checkpoint {file.path} holds no weights by name: expected a dictionary with `state_dict`, as "
            f"mmaction2 writes it, or a state dict itself, but found {kind[:200]}. Take a .pth of mmaction2."
        )
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    if len(stripped) < len(state):
        raise BadDataError(f"The checkpoint {file.path} has a key both with and without `module.` before it.")
    return {key: value for key, value in stripped.items() if not key.startswith("data_preprocessor.")}


def _verdict(rows: Sequence[Difference], *, source: str) -> str:
    if all(_is_class_count(row) for row in rows):
        found, wanted = (shape[0] if shape else 0 for shape in (rows[0].found, rows[0].wanted))
        first = f"{source} has {found} classes, the recipe wants {wanted}."
        advice = "Take the checkpoint of the recipe's data set, or correct the recipe's class count."
    else:
        missing = sum(row.found is None for row in rows)
        unexpected = sum(row.wanted is None for row in rows)
        first = (
            f"{source} does not fit the recipe's network: keys missing: {missing}, "
            f"unexpected: {unexpected}, of another shape: {len(rows) - missing - unexpected}."
        )
        advice = "Check that the recipe names the network and arguments that the checkpoint was trained with."
    return f"{first} Nothing was loaded. {advice}"


def _is_class_count(row: Difference) -> bool:
    if row.key not in _CLASSIFIERS or not row.found or not row.wanted:
        return False
    return row.found[1:] == row.wanted[1:]


def _table(rows: Sequence[Difference]) -> str:
    shown = [(_printable(row.key), _shape(row.wanted), _shape(row.found)) for row in rows[:_ROWS_SHOWN]]
    lines = [("key", "expected", "found"), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = [f"  {key:<{widths[0]}}  {wanted:<{widths[1]}}  {found}" for key, wanted, found in lines]
    if len(rows) > _ROWS_SHOWN:
        text.append(f"  and {len(rows) - _ROWS_SHOWN} more")
    return "\n".join(text)


def _shape(shape: Shape | None) -> str:
    return "-" if shape is None else str(list(shape))


def _printable(key: str) -> str:
    # A key comes from a file that may be hostile: it may neither flood the terminal nor steer it.
    return "".join(letter if letter.isprintable() else "?" for letter in key[:_KEY_SHOWN])
