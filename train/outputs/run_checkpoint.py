"""The checkpoints of a run: files in mmaction2's own format, which hold all that is needed to continue.

`meta`, `state_dict`, `optimizer` as mmcv's EpochBasedRunner writes them; what only vidom needs is in `meta["vidom"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from networks.checkpoints.checkpoint import load_state
from networks.checkpoints.torch_file import read_torch_file
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError
from vidom.files import atomic_path

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
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    content = {"meta": meta, "state_dict": state, "optimizer": _on_cpu(optimizer.state_dict())}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            # With a name instead of a stream, torch would store that name in the file.
            torch.save(content, stream)
        except RuntimeError as error:
            # Where the system refuses to write, torch complains about its own unfinished archive.
            raise error.__context__ if isinstance(error.__context__, OSError) else error  # noqa: B904


def load_run(
    path: Path, network: nn.Module, optimizer: Optimizer, *, identity: Mapping[str, Any]
) -> tuple[Progress, Mapping[str, Any]]:
    """Set network and optimizer to the checkpoint's state; return the progress and the state of the scaler.

    Nothing in the file is executed. Raises BadDataError for a file that is damaged, that vidom did not write, or that
    belongs to a run with a different `identity`.
    """
    content = read_torch_file(path).content
    meta = content.get("meta") if isinstance(content, dict) else None
    ours = meta.get("vidom") if isinstance(meta, dict) else None
    if not isinstance(ours, dict):
        raise BadDataError(
            f"{path} is not the checkpoint of a vidom run, so it cannot be continued. To begin from its weights, give "
            "it as --checkpoint and choose a different --output_dir."
        )
    _check_same(path, ours.get("identity") or {}, identity)
    load_state(network, read_torch(path).state_dict, source=f"The checkpoint {path}")
    optimizer.load_state_dict(_optimizer_state(path, content))
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


def _optimizer_state(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's state dict with its tensors read."""
    stored = content["optimizer"]
    flat = {
        f"{parameter}.{name}": value
        for parameter, entry in stored["state"].items()
        for name, value in entry.items()
        if not isinstance(value, (int, float, type(None)))
    }
    tensors = read_torch_file(path).tensors(flat)
    state = {
        parameter: {name: tensors.get(f"{parameter}.{name}", value) for name, value in entry.items()}
        for parameter, entry in stored["state"].items()
    }
    return {"state": state, "param_groups": stored["param_groups"]}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return value
