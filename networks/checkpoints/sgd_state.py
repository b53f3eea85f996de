"""The state of SGD with momentum in a checkpoint: that of torch as mmaction2 stores it, and what all frameworks share.

torch, Paddle and MindSpore define the momentum alike, `buffer = momentum * buffer + gradient`, without the learning
rate, so a buffer is the same tensor in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from networks.checkpoints.checkpoint import PlainValue
from networks.checkpoints.pickles.inert_pickle import Call
from networks.checkpoints.torch_file import TorchFile
from vidom.wording import shown

__all__ = ["SgdState", "from_torch", "to_torch", "torch_optimizer"]

# The groups of mmaction2's TSM are seven; a pickle may refer to the same object any number of times.
_MOST = 100


@dataclass(frozen=True)
class SgdState:
    """`buffers` are under the network's keys; `lr` is that of the last step, None for what a file does not state."""

    buffers: dict[str, Tensor]
    lr: float | None = None
    momentum: float | None = None
    steps: int | None = None
    epochs: float | None = None

    @property
    def progress(self) -> dict[str, int | float]:
        """The steps and epochs as in the `meta` of a .pth."""
        return {
            name: done for name, done in (("iter", self.steps), ("epoch", self.epochs)) if done is not None
        }


def torch_optimizer(file: TorchFile) -> dict[str, Any] | None:
    """Return the optimizer's state dict in the file with its tensors read, None without one.

    Raises BadDataError for damaged tensors; ValueError for a state of other contents, such as that of two optimizers.
    """
    stored = file.content.get("optimizer") if isinstance(file.content, dict) else None
    if stored is None:
        return None
    match stored:
        case {"state": dict(entries), "param_groups": [*groups]} if (
            all(isinstance(entry, dict) and len(entry) <= _MOST for entry in entries.values())
            and len(groups) <= _MOST
            and all(isinstance(group, dict) and all(map(_is_setting, group.values())) for group in groups)
        ):
            pass
        case _:
            raise ValueError("the optimizer's state is not that of a single optimizer of torch")
    described = {
        f"{parameter}.{name}": value
        for parameter, entry in entries.items()
        for name, value in entry.items()
        if isinstance(value, Call)
    }
    tensors = file.tensors(described)
    state = {
        parameter: {name: tensors.get(f"{parameter}.{name}", value) for name, value in entry.items()}
        for parameter, entry in entries.items()
    }
    return {"state": state, "param_groups": groups}


def from_torch(optimizer: Mapping[str, Any], meta: Mapping[str, Any]) -> SgdState:
    """Return the momentum in the state dict; `iter` and `epoch` of the checkpoint's `meta` count what was done.

    Raises ValueError unless each group names its parameters (`param_names`, as in torch) and each has its momentum.
    """
    buffers = {}
    for group in optimizer["param_groups"]:
        match group:
            case {"params": [*numbers], "param_names": [*names]} if len(numbers) == len(names):
                pass
            case _:
                raise ValueError("the optimizer's state does not name its parameters")
        for number, name in zip(numbers, names, strict=True):
            match optimizer["state"].get(number):
                case {"momentum_buffer": Tensor() as buffer}:
                    buffers[str(name)] = buffer
                case _:
                    raise ValueError(f"the optimizer's state has no momentum of {shown(name)}")
    first = optimizer["param_groups"][0] if buffers else {}
    lr, momentum, steps, epochs = (
        value if isinstance(value, int | float) else None
        for value in (first.get("lr"), first.get("momentum"), meta.get("iter"), meta.get("epoch"))
    )
    return SgdState(buffers, lr, momentum, None if steps is None else int(steps), epochs)


def to_torch(state: SgdState) -> dict[str, Any]:
    """Return the state as a state dict of torch with one group, which has the settings that `state` has."""
    numbers = list(range(len(state.buffers)))
    group = {
        "params": numbers,
        "param_names": list(state.buffers),
        "lr": state.lr,
        "momentum": state.momentum,
    }
    return {
        "state": {
            number: {"momentum_buffer": buffer}
            for number, buffer in zip(numbers, state.buffers.values(), strict=True)
        },
        "param_groups": [{name: value for name, value in group.items() if value is not None}],
    }


def _is_setting(value: Any) -> bool:
    """Return whether the value is a text, a number or several of them, and no placeholder of an object."""
    return all(isinstance(one, PlainValue) for one in (value if isinstance(value, list | tuple) else [value]))
