"""Read the weights of a network from a .pth of any training program, or from safetensors, without executing anything.

mmaction2 (`mmcv/runner/checkpoint.py`, `mmengine/runner/checkpoint.py`) saves {meta, state_dict, optimizer, ...}; its
`tools/deployment/publish_model.py` keeps meta and state_dict, and adds the first 8 digits of the SHA-256 to the name.
Other programs use other keys (`model`, `model_state_dict`, `state_dict_ema`) and add prefixes to those of the network
(`module.`, `model.`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from networks.checkpoints.checkpoint import Checkpoint, plain_values
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.pickles.inert_pickle import Call
from networks.checkpoints.safetensors_file import is_safetensors, read_safetensors
from networks.checkpoints.torch_file import TorchFile, read_torch_file
from vidom.errors import BadDataError
from vidom.files import sha256_file
from vidom.wording import shown, some

__all__ = ["read_torch"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_DEEPEST = 3
_LONGEST_KEY = 100
_MOST_WRAPPERS = 8
_CONFIGS = ("config", "cfg")
# Entries of a training program that may hold tensors which are not weights.
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|meta|message_hub|callback|loops?$|history", re.IGNORECASE)
_AVERAGES = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)", re.IGNORECASE)
_OPTIMIZER_KEYS = {"param_groups", "optimizer"}
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
_ROOTS = ("backbone", "cls_head")


def read_torch(path: Path | str) -> Checkpoint:
    """Return the weights in the .pth or safetensors file at `path` under the network's own keys.

    The weights are the dictionary of tensors in the file, wherever it is nested; of several, `state_dict`, or the only
    one that is not an average. What precedes the network's keys is removed. Averages (`ema_*`) stored with the weights
    are left out: when mmcv saves, it has swapped them into the plain keys. So is `data_preprocessor.*`, the
    normalisation of mmaction2 1.x, because the recipe defines it. `notes` names all that. A hash in the file's name
    that does not match the file gives a warning, not an error.

    Raises UsageError when there is no such file, BadDataError when it is damaged, not a checkpoint, refers to code or
    holds the weights of several networks.
    """
    path = checkpoint_file(path)
    sha256 = sha256_file(path)
    suffix = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if suffix and suffix[1] != sha256[:8]:
        _log.warning(
            f"According to its name the SHA-256 of {path} starts with {suffix[1]}, but it starts with {sha256[:8]}: "
            "the file was changed after publication or downloaded incompletely."
        )
    if is_safetensors(path):
        arrays, texts = read_safetensors(path)
        named, notes = _network_keys(arrays, path=path)
        return Checkpoint(
            path=path,
            sha256=sha256,
            framework="torch",
            layout=f"safetensors, {len(arrays)} tensors",
            meta=plain_values(texts),
            state_dict={key: torch.from_numpy(array) for key, array in named.items()},
            notes=notes,
        )
    file = read_torch_file(path)
    place, entries, origin = _weights_in(file)
    named, notes = _network_keys(entries, path=path)
    content = file.content
    meta = content.get("meta") if place else None
    meta = meta if isinstance(meta, dict) else {}
    return Checkpoint(
        path=path,
        sha256=sha256,
        framework="mmaction2" if place == "state_dict" and isinstance(content.get("meta"), dict) else "torch",
        layout=f"{file.layout}; {_contents(content, place)}",
        meta=plain_values({key: value for key, value in meta.items() if key not in _CONFIGS}),
        state_dict=file.tensors(named),
        notes=origin + notes,
        config=next((meta[key] for key in _CONFIGS if key in meta), None),
    )


def _contents(content: Mapping[Any, Any], place: str) -> str:
    if not place:
        return "plain state dict"
    others = [str(key) for key in content if key != place.partition(".")[0] and isinstance(key, str | int)]
    return shown(place) + (f" and {shown(', '.join(others), 100)}" if others else "")


def _weights_in(file: TorchFile) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Return the place of the network's tensors, such as `state_dict` ("" for the whole content), they, and notes."""
    content = file.content
    found = dict(_state_dicts(content, "", set()))
    plain = ["state_dict"] if "state_dict" in found else [one for one in found if not _AVERAGES.search(one)]
    if len(plain or found) == 1:
        (place,) = plain or found
        others = [repr(one) for one in found if one != place]
        note = f"weights are those under {place!r}" + (f", not those under {some(others)}" if others else "")
        return place, found[place], (shown(note),) if others or place not in ("", "state_dict") else ()
    if found:
        raise BadDataError(
            f"The checkpoint {file.path} holds several sets of weights, and none under `state_dict`: "
            f"{shown(some(map(repr, plain or found)))}. Save the one to use alone, with torch.save, under "
            "the key `state_dict`."
        )
    keys = content.keys() if isinstance(content, dict) else set()
    if "state_dict" not in keys and _OPTIMIZER_KEYS & keys:
        raise BadDataError(
            f"The checkpoint {file.path} holds the state of an optimizer, not weights: its keys are "
            f"{shown(some(keys))}. Use the file with the network's state_dict."
        )
    what = (
        some(f"{shown(key, 50)!r} ({_kind(value)})" for key, value in content.items() if isinstance(key, str))
        if isinstance(content, dict)
        else _kind(content)
    )
    raise BadDataError(
        f"The checkpoint {file.path} has no named weights: expected a dictionary of tensors, plain or under a key such "
        f"as `state_dict`, but found {what or 'nothing'}. Where a complete network was saved, save its state_dict() "
        "instead."
    )


def _state_dicts(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the innermost dictionaries with tensors and their places; one that is referred to twice is found once."""
    if not isinstance(value, dict) or id(value) in seen or not all(isinstance(key, str) for key in value):
        return
    seen.add(id(value))
    inner: list[tuple[str, dict[str, Any]]] = []
    if place.count(".") < _DEEPEST:
        for key, child in value.items():
            if isinstance(child, dict) and len(key) <= _LONGEST_KEY and not _NOT_WEIGHTS.search(key):
                inner += _state_dicts(child, f"{place}.{key}".removeprefix("."), seen)
    if inner:
        yield from inner
    elif any(
        isinstance(one, Call) and one.name.startswith("torch._utils._rebuild_") for one in value.values()
    ):
        yield place, value


def _kind(value: Any) -> str:
    if isinstance(value, Call):
        return f"an object of {shown(value.name, 80)}"
    return type(value).__name__


def _network_keys(entries: Mapping[str, T], *, path: Path) -> tuple[dict[str, T], tuple[str, ...]]:
    """Return the entries under the network's keys, and what was changed."""
    notes = []
    averages = dict.fromkeys(filter(_is_average, entries))
    weights = {key: value for key, value in entries.items() if key not in averages}
    if averages and any(_before_root(key) is not None for key in weights):
        notes.append(f"{len(averages)} averages such as {shown(next(iter(averages)), 80)} left out")
    else:
        weights = dict(entries)
    prefix = _prefix(weights, path=path)
    named = {key.removeprefix(prefix): value for key, value in weights.items()}
    if len(named) < len(weights):
        raise BadDataError(
            f"The checkpoint {path} has a key both with and without the prefix {shown(prefix)!r}."
        )
    if prefix:
        notes.append(f"prefix {shown(prefix)!r} removed from the keys")
    if "conv1.conv.weight" in named:
        named = {_rooted(key): value for key, value in named.items()}
        notes.append("prefix 'backbone.' added to the keys")
    kept = {key: value for key, value in named.items() if not key.startswith("data_preprocessor.")}
    return kept, tuple(notes)


def _is_average(key: str) -> bool:
    """Return whether what precedes the network's key names an average, as in ema_model.* or mmcv's ema_*."""
    before = _before_root(key)
    return _AVERAGES.search(key if before is None else before) is not None


def _prefix(entries: Mapping[str, object], *, path: Path) -> str:
    """Return what precedes the keys of the network."""
    found = dict.fromkeys(start for key in entries if (start := _before_root(key)) is not None)
    if "" in found:
        return ""
    if len(found) > 1:
        raise BadDataError(
            f"The checkpoint {path} holds the weights of several networks, whose keys start with "
            f"{shown(some(map(repr, found)))}. Save those of one network alone."
        )
    prefix = next(iter(found), "")
    for _ in range(0 if found else _MOST_WRAPPERS):
        wrapper = next((one for one in _WRAPPERS if all(key.startswith(prefix + one) for key in entries)), "")
        prefix += wrapper
    return prefix


def _before_root(key: str) -> str | None:
    parts = key.split(".")
    return next((".".join([*parts[:place], ""]) for place, part in enumerate(parts) if part in _ROOTS), None)


def _rooted(key: str) -> str:
    if key.startswith("fc_cls."):
        return f"cls_head.{key}"
    return key if key.startswith("cls_head.") else f"backbone.{key}"
