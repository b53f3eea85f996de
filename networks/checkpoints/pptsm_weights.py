"""Read and write PP-TSM's weights in Paddle's files: the keys of `networks.pptsm.PPTSM` here, Paddle's keys there.

| Paddle                      | here                              |
|-----------------------------|-----------------------------------|
| `..._batch_norm._mean`      | `..._batch_norm.running_mean`     |
| `..._batch_norm._variance`  | `..._batch_norm.running_var`      |
| `head.fc.weight` [in, out]  | the same key, [out, in]           |
| every other key             | the same                          |

Paddle's optimizer names its tensors by the internal names of the parameters, which PaddleVideo derives from the layers
(`paddlevideo/modeling/backbones/resnet_tweaks_tsm.py`): `res4b_branch2a_weights`, `bn4b_branch2a_scale`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint
from networks.checkpoints.pdiparams import read_pdiparams
from networks.checkpoints.pdparams import read_pdopt, read_pdparams, write_paddle
from networks.checkpoints.sgd_state import SgdState

__all__ = [
    "from_paddle",
    "internal_names",
    "paddle_key",
    "read_pptsm",
    "read_velocities",
    "to_paddle",
    "write_pptsm",
    "write_velocities",
]

_CLASSIFIER = "head.fc.weight"
_STATISTICS = {
    "_batch_norm._mean": "_batch_norm.running_mean",
    "_batch_norm._variance": "_batch_norm.running_var",
}
_LAYER = re.compile(r"backbone\.(?:bb_(\d+)_(\d+)\.)?(\w+)\._(\w+)\.(\w+)")
_BRANCHES = {"conv0": "2a", "conv1": "2b", "conv2": "2c", "short": "1"}
_HEAD = {"head.fc.weight": "fc_0.w_0", "head.fc.bias": "fc_0.b_0"}
_LEAVES = {"weight": "scale", "bias": "offset"}
_RUNNING = {"running_mean": "w_0", "running_var": "w_1"}
_VELOCITY = "_velocity_0"
_SCHEDULER = "LR_Scheduler"


def read_pptsm(path: Path | str) -> Checkpoint:
    """Return the weights for the network in the file at `path`: .pdiparams if its name ends so, else .pdparams.

    Raises UsageError and BadDataError as `read_pdiparams` and `read_pdparams` do.
    """
    path = Path(path)
    read = read_pdiparams(path) if path.suffix == ".pdiparams" else read_pdparams(path)
    return replace(read, state_dict=from_paddle(read.state_dict))


def from_paddle(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Paddle state dict under the network's keys and in its layouts.

    Keys and shapes are not checked here but when the tensors are loaded.
    """
    return {_renamed(key, _STATISTICS): _turned(key, value) for key, value in state.items()}


def to_paddle(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's tensors under Paddle's keys and in its layouts, without `num_batches_tracked`."""
    return {
        paddle_key(key): _turned(key, value)
        for key, value in state.items()
        if not key.endswith(".num_batches_tracked")
    }


def paddle_key(key: str) -> str:
    """Return Paddle's key of the network's tensor `key`."""
    return _renamed(key, {ours: theirs for theirs, ours in _STATISTICS.items()})


def internal_names(keys: Iterable[str]) -> dict[str, str]:
    """Return Paddle's internal name of each of the network's tensors; all of its keys are needed, in its order."""
    keys = [key for key in keys if not key.endswith(".num_batches_tracked")]
    # With more than six blocks in the third stage PaddleVideo counts them instead of naming them by letters.
    counted = any(key.startswith("backbone.bb_2_6.") for key in keys)
    norms = dict.fromkeys(key.rpartition(".")[0] for key in keys if key.endswith(".running_mean"))
    place = {norm: index for index, norm in enumerate(norms)}
    names = {}
    for key in keys:
        found = _LAYER.fullmatch(key)
        if found is None:
            names[key] = _HEAD[key]
            continue
        stage, block, layer, kind, leaf = found.groups()
        if stage is not None:
            letter = f"b{block}" if counted and stage == "2" and block != "0" else chr(ord("a") + int(block))
            layer = f"res{int(stage) + 2}{letter}_branch{_BRANCHES[layer]}"
        if kind == "conv":
            names[key] = f"{layer}_weights"
        elif leaf in _LEAVES:
            names[key] = f"bn{layer[3:]}_{_LEAVES[leaf]}"
        else:
            names[key] = f"batch_norm2d_{place[key.rpartition('.')[0]]}.{_RUNNING[leaf]}"
    return names


def read_velocities(path: Path | str, keys: Iterable[str]) -> SgdState:
    """Return the momentum in the .pdopt file at `path` for the network with these keys.

    Raises ValueError where it is not that of Momentum for all trained parameters; BadDataError as `read_pdopt` does.
    """
    tensors, others = read_pdopt(path)
    names = {
        key: f"{name}{_VELOCITY}" for key, name in internal_names(keys).items() if not _is_statistic(key)
    }
    if set(names.values()) != tensors.keys():
        raise ValueError(f"the optimizer's state in {path} is not that of Momentum for this network")
    epochs: float | None
    lr: float | None
    match others.get(_SCHEDULER):
        case {"last_epoch": int() | float() as epochs, "last_lr": int() | float() as lr}:
            pass
        case _:
            epochs = lr = None
    buffers = {key: _turned(key, tensors[name]) for key, name in names.items()}
    return SgdState(buffers, lr=lr, epochs=epochs)


def write_pptsm(path: Path | str, weights: Mapping[str, Tensor]) -> int:
    """Write the state dict of a `PPTSM` as a .pdparams for PaddleVideo; return the number of tensors."""
    internal = internal_names(weights)
    table = {paddle_key(key): name for key, name in internal.items()}
    write_paddle(path, to_paddle(weights), table=table)
    return len(table)


def write_velocities(path: Path | str, keys: Iterable[str], optimizer: SgdState) -> int:
    """Write the momentum of the network with these keys as a .pdopt for PaddleVideo; return the number of tensors.

    PaddleVideo continues at the epoch there, at the rate of the last step; from the next step on at its schedule's.
    """
    names = {
        key: f"{name}{_VELOCITY}" for key, name in internal_names(keys).items() if key in optimizer.buffers
    }
    velocities = {name: _turned(key, optimizer.buffers[key]) for key, name in names.items()}
    others = {}
    if optimizer.lr is not None and optimizer.epochs is not None:
        others[_SCHEDULER] = {"last_epoch": optimizer.epochs, "last_lr": optimizer.lr}
    write_paddle(path, velocities, others, table=dict(zip(velocities, velocities, strict=True)))
    return len(velocities)


def _renamed(key: str, ends: Mapping[str, str]) -> str:
    return next((key.removesuffix(old) + new for old, new in ends.items() if key.endswith(old)), key)


def _turned(key: str, value: Tensor) -> Tensor:
    """Return the tensor in the layout of the other framework."""
    return value.t().contiguous() if key == _CLASSIFIER and value.ndim == 2 else value


def _is_statistic(key: str) -> bool:
    return key.endswith(tuple(_STATISTICS.values()))
