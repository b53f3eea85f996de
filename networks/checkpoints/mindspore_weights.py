"""Read and write the weights of `networks.stnet.StNet` in MindSpore's files, under MindSpore's names there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint, PlainValue
from networks.checkpoints.mindir import is_mindir, read_mindir
from networks.checkpoints.mindspore_ckpt import read_ckpt, write_ckpt
from networks.checkpoints.mindspore_file import Array
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.safetensors_file import is_safetensors, read_safetensors
from networks.checkpoints.sgd_state import SgdState
from vidom.errors import BadDataError
from vidom.files import sha256_file
from vidom.wording import shown, some

__all__ = [
    "mindspore_key",
    "mindspore_names",
    "read_mindspore",
    "read_moments",
    "write_mindspore",
    "xception_is_depthwise",
]

# MindSpore's names and ours; all others are equal, and no tensor is transposed.
_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OWNERS = {
    "down_sample_layer": "downsample",
    "temp1.bn1.bn2d": "temp1.bn1",
    "temp2.bn1.bn2d": "temp2.bn1",
}
# The order of MindSpore's checkpoints: trained parameters, then statistics, both by these modules.
_ORDER = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "temp1", "temp2", "xception", "fc")
_STATISTICS = (".running_mean", ".running_var")
_MOMENTS = "moments."
_CLASSIFIER = "fc.bias"
# The prefixes of Momentum and Adam; their scalars and MindSpore's counters have no dot.
_OPTIMIZER = re.compile(r"(moments|moment1|moment2)\..*|[^.]*")


def read_mindspore(path: Path | str) -> Checkpoint:
    """Return the weights in MindSpore's .ckpt, .mindir or safetensors file at `path`, under the keys of `StNet`.

    The optimizer's entries in a training checkpoint are dropped; its numbers (learning_rate, global_step, ...) are in
    `meta`. A prefix of all parameters is removed, as MindSpore does. The kind of the file is detected from its bytes,
    not from its name.

    Raises UsageError when there is no file; BadDataError when it is encrypted, damaged or has weights other than
    floating-point numbers.
    """
    path = checkpoint_file(path)
    values, layout = _values(path)
    weights = _without_prefix(
        {name: value for name, value in values.items() if not _OPTIMIZER.fullmatch(name)}
    )
    others = [f"{shown(name)} ({value.dtype})" for name, value in weights.items() if value.dtype.kind != "f"]
    if others:
        raise BadDataError(
            f"The checkpoint {path} has {len(others)} weights that are not floating-point numbers: "
            f"{some(others)}. It may be of a quantized network; use the float32 one."
        )
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        if mindspore_key(name) in state:
            raise BadDataError(
                f"The checkpoint {path} has two entries for {shown(mindspore_key(name))}, one of them {shown(name)}."
            )
        state[mindspore_key(name)] = torch.from_numpy(value).float()
    return Checkpoint(
        path=path,
        sha256=sha256_file(path),
        framework="mindspore",
        layout=layout,
        meta=_meta(values),
        state_dict=state,
    )


def mindspore_key(name: str) -> str:
    """Return the key in the state dict of `StNet` of MindSpore's parameter `name`."""
    owner, dot, leaf = name.rpartition(".")
    return f"{_renamed(owner, _OWNERS)}{dot}{_LEAVES.get(leaf, leaf)}"


def mindspore_names(keys: Iterable[str]) -> dict[str, str]:
    """Return MindSpore's name of each tensor of `StNet`, in the order of MindSpore's training checkpoints.

    `num_batches_tracked`, which MindSpore does not have, is left out.
    """
    kept = [key for key in keys if not key.endswith(".num_batches_tracked")]
    norms = {key.rpartition(".")[0] for key in kept if key.endswith(_STATISTICS)}
    owners, leaves = ({ours: theirs for theirs, ours in table.items()} for table in (_OWNERS, _LEAVES))
    kept.sort(key=lambda key: (key.endswith(_STATISTICS), _ORDER.index(key.partition(".")[0])))
    return {
        key: f"{_renamed(owner, owners)}.{leaves[leaf] if owner in norms else leaf}"
        for key in kept
        for owner, _, leaf in [key.rpartition(".")]
    }


def read_moments(path: Path | str) -> SgdState | None:
    """Return the momentum in the training checkpoint at `path`, None in a file of weights only.

    Raises ValueError for the state of another optimizer than Momentum; otherwise as `read_mindspore` does.
    """
    values, _ = _values(Path(path))
    state = {name for name in values if "." in name and _OPTIMIZER.fullmatch(name)}
    if not state:
        return None
    if not all(name.startswith(_MOMENTS) for name in state):
        raise ValueError("the optimizer's state is not that of Momentum")
    meta = _meta(values)
    lr, momentum, steps = (meta.get(name) for name in ("learning_rate", "momentum", "global_step"))
    return SgdState(
        {
            mindspore_key(name.removeprefix(_MOMENTS)): torch.from_numpy(values[name]).float()
            for name in values
            if name in state
        },
        lr=float(lr) if isinstance(lr, float) else None,
        momentum=float(momentum) if isinstance(momentum, float) else None,
        steps=int(steps) if isinstance(steps, int) else None,
    )


def write_mindspore(
    path: Path | str, weights: Mapping[str, Tensor], optimizer: SgdState | None = None
) -> int:
    """Write the state dict of a `StNet` as a .ckpt for MindSpore, in float32; return the number of entries.

    With the optimizer's state the entries are those of MindSpore's training checkpoints, else the network's alone.
    """
    names = mindspore_names(weights)
    entries: dict[str, Array] = {name: _as_float32(weights[key]) for key, name in names.items()}
    if optimizer is not None:
        entries |= {
            "global_step": np.array([optimizer.steps or 0], np.int32),
            "learning_rate": np.array(optimizer.lr or 0, np.float32),
            "momentum": np.array(optimizer.momentum or 0, np.float32),
        }
        trained = ((key, name) for key, name in names.items() if key in optimizer.buffers)
        entries |= {f"{_MOMENTS}{name}": _as_float32(optimizer.buffers[key]) for key, name in trained}
    write_ckpt(path, entries)
    return len(entries)


def xception_is_depthwise(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether the head's temporal convolutions in these weights are depthwise; False where they are absent.

    A depthwise filter has one input channel: its weight is [2048, 1, 3, 1], that of a dense one [2048, 2048, 3, 1].
    """
    weight = state_dict.get("xception.att_conv.weight")
    return weight is not None and weight.ndim == 4 and weight.shape[1] == 1


def _renamed(owner: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        owner = re.sub(rf"(^|(?<=\.)){re.escape(old)}(?=\.|$)", new, owner)
    return owner


def _as_float32(tensor: Tensor) -> Array:
    return tensor.detach().cpu().float().numpy()


def _values(path: Path) -> tuple[dict[str, Array], str]:
    """Return all entries of the file, and its layout as a text."""
    if is_safetensors(path):
        values, _ = read_safetensors(path)
        return values, f"safetensors, {len(values)} tensors"
    if is_mindir(path):
        return read_mindir(path), "model with its graph (.mindir)"
    return read_ckpt(path)


def _without_prefix(weights: Mapping[str, Array]) -> dict[str, Array]:
    ends = [name.removesuffix(_CLASSIFIER) for name in weights if name.endswith(f".{_CLASSIFIER}")]
    prefix = ends[0] if len(ends) == 1 and _CLASSIFIER not in weights else ""
    shared = all(name.startswith(prefix) for name in weights)
    return {name.removeprefix(prefix if shared else ""): value for name, value in weights.items()}


def _meta(values: Mapping[str, Array]) -> dict[str, PlainValue]:
    return {name: value.item() for name, value in values.items() if "." not in name and value.size == 1}
