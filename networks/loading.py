"""Build networks from the name and arguments in a recipe, and load their weights."""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import Checkpoint, load_state
from networks.checkpoints.mindspore_weights import xception_is_depthwise
from networks.i3d import I3D
from networks.pptsm import PPTSM
from networks.seeded import seeded_state_dict
from networks.stnet import StNet
from networks.training_config import contradictions, read_config
from networks.tsm import TSM
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe

__all__ = ["Provenance", "build_network", "load_network"]

_log = logging.getLogger(__name__)

_SEEDED = "seeded:"
_NETWORKS: dict[str, type[nn.Module]] = {"tsm": TSM, "i3d": I3D, "pptsm": PPTSM, "stnet": StNet}
_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class Provenance:
    """The origin of a network's weights."""

    description: str
    sha256: str
    """Of the checkpoint file; for seeded weights, of the tensors' keys and bytes."""
    seeded: bool


def build_network(arch: str, arguments: Mapping[str, object]) -> nn.Module:
    """Return the network `arch` with newly initialised weights, in training mode.

    Raises UsageError for an unknown network, and for an unknown, missing or invalid argument.
    """
    if arch not in _NETWORKS:
        raise UsageError(
            f"Unknown network {arch!r}; choose one of {', '.join(_NETWORKS)}. Fix it in the recipe."
        )
    return _NETWORKS[arch](**_checked(arch, _NETWORKS[arch], arguments))


def load_network(
    recipe: Recipe, checkpoint: str, *, ignore_meta: bool = False
) -> tuple[nn.Module, Provenance]:
    """Return the recipe's network in evaluation mode with the weights of `checkpoint`, and their origin.

    `checkpoint` is the path of a file in any framework's format, vidom's own .pth included, or `seeded:N` for the
    random weights of `seeded_state_dict` with the seed N. Whether StNet's temporal convolutions are depthwise is
    detected from the shapes in the file. With `ignore_meta` the training configuration there may contradict the recipe.

    Raises UsageError as `build_network` does, for a malformed `seeded:` and a missing file; BadDataError when the file
    is damaged, does not fit the network or was trained with other settings than the recipe's.
    """
    arch, arguments = recipe.network.arch, recipe.network_arguments
    if checkpoint.startswith(_SEEDED):
        network = build_network(arch, arguments)
        return network.eval(), _load_seeded(network, checkpoint)
    read = read_any(checkpoint)
    for note in read.notes:
        _log.info(f"{read.path.name}: {note}.")
    if not ignore_meta:
        _check_training(read, recipe)
    if arch == "stnet":
        arguments = {**arguments, "depthwise": xception_is_depthwise(read.state_dict)}
    network = build_network(arch, arguments)
    load_state(network, read.state_dict, source=f"The checkpoint {read.path}")
    return network.eval(), Provenance(
        description=f"checkpoint {read.path.name}", sha256=read.sha256, seeded=False
    )


def _check_training(read: Checkpoint, recipe: Recipe) -> None:
    found = contradictions(read_config(read), recipe)
    if found:
        options = " ".join(one.option for one in found if one.option)
        change = f" or change the recipe with {options}" if options else ""
        raise BadDataError(
            f"The checkpoint {read.path} contradicts the recipe {recipe.name}: {'; '.join(map(str, found))}. The "
            f"scores would be those of a different network. Use the checkpoint of the recipe{change}; --ignore_meta "
            "loads this one all the same."
        )


def _load_seeded(network: nn.Module, checkpoint: str) -> Provenance:
    number = re.fullmatch(r"[0-9]{1,18}", checkpoint.removeprefix(_SEEDED))
    if not number:
        raise UsageError(
            f"Seeded random weights are written seeded:N with an integer N; found {checkpoint!r}."
        )
    tensors = seeded_state_dict(
        {key: tensor.shape for key, tensor in network.state_dict().items()}, seed=int(number[0])
    )
    load_state(network, tensors, source=checkpoint)
    return Provenance(
        description=f"seeded random weights {checkpoint}", sha256=_fingerprint(tensors), seeded=True
    )


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, tensor in tensors.items():
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _checked(arch: str, network: type[nn.Module], arguments: Mapping[str, object]) -> dict[str, Any]:
    parameters = inspect.signature(network, eval_str=True).parameters
    problems = [
        f"{name} is unknown"
        if name not in parameters
        else f"{name} must be {_KINDS[parameters[name].annotation]}"
        for name, value in arguments.items()
        if name not in parameters or not _is_a(parameters[name].annotation, value)
    ]
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    problems += [f"{name} is missing" for name in required if name not in arguments]
    if problems:
        raise UsageError(
            f"Invalid arguments of the network {arch} in the recipe: {'; '.join(problems)}. "
            f"Its arguments are {', '.join(parameters)}; found {dict(arguments)}."
        )
    return dict(arguments)


def _is_a(kind: type, value: object) -> bool:
    # In Python True is an int; in a recipe it is not.
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
