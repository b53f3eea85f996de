"""The checkpoints of a run: files in mmaction2's own format, which hold all that is needed to continue.

`meta`, `state_dict`, `optimizer` as mmcv's EpochBasedRunner writes them; what only vidom needs is in `meta["vidom"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from networks.checkpoints.checkpoint import load_state, save_mmaction2
from networks.checkpoints.sgd_state import torch_optimizer
from networks.checkpoints.torch_file import read_torch_file
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError

__all__ = ["Progress", "load_run", "save_run"]


@dataclass(frozen=True)
class Progress:
    """How far a run has come: the steps taken, and the best validation with the number of epochs before it."""

    step: int = 0
    best_top1: float | None = None
    best_top5: float | None = None
    best_epoch: int | None = None


def save_run(
    path: Path,
    network: nn.Module,
    optimizer: Optimizer,
    progress: Progress,
    *,
    identity: Mapping[str, Any],
    epoch: int,
    config: str,
    scaler: Mapping[str, Any] | None = None,
) -> None:
    """Write the checkpoint to `path`; equal states give equal bytes.

    `epoch` counts finished epochs, as mmcv's meta does; `config` is the run's configuration as text. Raises OSError
    where the disk is full; what was at `path` stays then.
    """
    meta = {
        "epoch": epoch,
        "iter": progress.step,
        "seed": identity.get("seed"),
        "config": config,
        "vidom": {"identity": dict(identity), "progress": asdict(progress), "scaler": dict(scaler or {})},
    }
    save_mmaction2(path, network, meta, optimizer=_named(optimizer, network))


def load_run(
    path: Path, network: nn.Module, optimizer: Optimizer, *, identity: Mapping[str, Any]
) -> tuple[Progress, Mapping[str, Any]]:
    """Set network and optimizer to the checkpoint's state; return the progress and the state of the scaler.

    Nothing in the file is executed. Raises BadDataError for a file that is damaged, that vidom did not write, or that
    belongs to a run with a different `identity`.
    """
    file = read_torch_file(path)
    content = file.content
    meta = content.get("meta") if isinstance(content, dict) else None
    ours = meta.get("vidom") if isinstance(meta, dict) else None
    state = torch_optimizer(file)
    if not isinstance(ours, dict) or state is None:
        raise BadDataError(
            f"{path} is not the checkpoint of a vidom run, so it cannot be continued. To begin from its weights, give "
            "it as --checkpoint and choose a different --output_dir."
        )
    _check_same(path, ours.get("identity") or {}, identity)
    load_state(network, read_torch(path).state_dict, source=f"The checkpoint {path}")
    for group in state["param_groups"]:
        # torch would keep them in an order of its own, and a run that continues writes the same bytes.
        group.pop("param_names", None)
    optimizer.load_state_dict(state)
    return Progress(**ours["progress"]), ours["scaler"]


def _check_same(path: Path, found: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    differing = [key for key in requested if found.get(key) != requested[key]]
    if differing:
        details = "; ".join(
            f"{key} {found.get(key)!r} there, {requested[key]!r} requested" for key in differing
        )
        raise BadDataError(
            f"{path} belongs to a different run ({details}). Choose a different --output_dir, or run the command with "
            "the settings of that run; nothing was changed."
        )


def _named(optimizer: Optimizer, network: nn.Module) -> dict[str, Any]:
    """Return the optimizer's state dict with the names of its parameters, as torch stores them with named ones."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    state = optimizer.state_dict()
    for stored, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        stored["param_names"] = [names[id(parameter)] for parameter in group["params"]]
    return state
