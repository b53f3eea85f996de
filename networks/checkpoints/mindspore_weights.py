"""Read weights saved by MindSpore under the keys of `networks.stnet.StNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint, PlainValue
from networks.checkpoints.mindir import is_mindir, read_mindir
from networks.checkpoints.mindspore_ckpt import read_ckpt
from networks.checkpoints.mindspore_file import Array
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.safetensors_file import is_safetensors, read_safetensors
from vidom.errors import BadDataError
from vidom.files import sha256_file
from vidom.wording import shown, some

__all__ = ["mindspore_key", "read_mindspore", "xception_is_depthwise"]

# MindSpore's names and ours; all others are equal, and no tensor is transposed.
_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OWNERS = {"down_sample_layer": "downsample", "bn1.bn2d": "bn1"}
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
    if is_safetensors(path):
        values, _ = read_safetensors(path)
        layout = f"safetensors, {len(values)} tensors"
    elif is_mindir(path):
        values, layout = read_mindir(path), "model with its graph (.mindir)"
    else:
        values, layout = read_ckpt(path)
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
    for theirs, ours in _OWNERS.items():
        owner = re.sub(rf"(^|(?<=\.)){re.escape(theirs)}(?=\.|$)", ours, owner)
    return f"{owner}{dot}{_LEAVES.get(leaf, leaf)}"


def xception_is_depthwise(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether the head's temporal convolutions in these weights are depthwise; False where they are absent.

    A depthwise filter has one input channel: its weight is [2048, 1, 3, 1], that of a dense one [2048, 2048, 3, 1].
    """
    weight = state_dict.get("xception.att_conv.weight")
    return weight is not None and weight.ndim == 4 and weight.shape[1] == 1


def _without_prefix(weights: Mapping[str, Array]) -> dict[str, Array]:
    ends = [name.removesuffix(_CLASSIFIER) for name in weights if name.endswith(f".{_CLASSIFIER}")]
    prefix = ends[0] if len(ends) == 1 and _CLASSIFIER not in weights else ""
    shared = all(name.startswith(prefix) for name in weights)
    return {name.removeprefix(prefix if shared else ""): value for name, value in weights.items()}


def _meta(values: Mapping[str, Array]) -> dict[str, PlainValue]:
    return {name: value.item() for name, value in values.items() if "." not in name and value.size == 1}
