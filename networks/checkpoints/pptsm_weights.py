"""Read PP-TSM's weights under the keys of `networks.pptsm.PPTSM` instead of Paddle's.

| Paddle                      | here                              |
|-----------------------------|-----------------------------------|
| `..._batch_norm._mean`      | `..._batch_norm.running_mean`     |
| `..._batch_norm._variance`  | `..._batch_norm.running_var`      |
| `head.fc.weight` [in, out]  | the same key, [out, in]           |
| every other key             | the same                          |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint
from networks.checkpoints.pdiparams import read_pdiparams
from networks.checkpoints.pdparams import read_pdparams

__all__ = ["from_paddle", "paddle_key", "read_pptsm"]

_CLASSIFIER = "head.fc.weight"
_STATISTICS = {
    "_batch_norm._mean": "_batch_norm.running_mean",
    "_batch_norm._variance": "_batch_norm.running_var",
}


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
    return {
        _network_key(key): value.t().contiguous() if key == _CLASSIFIER and value.ndim == 2 else value
        for key, value in state.items()
    }


def paddle_key(key: str) -> str:
    """Return Paddle's key of the network's tensor `key`."""
    for theirs, ours in _STATISTICS.items():
        if key.endswith(ours):
            return key.removesuffix(ours) + theirs
    return key


def _network_key(key: str) -> str:
    for theirs, ours in _STATISTICS.items():
        if key.endswith(theirs):
            return key.removesuffix(theirs) + ours
    return key
