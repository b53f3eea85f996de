"""The weights that a training begins from: another checkpoint's, as far as they fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor, nn

from networks.checkpoints.checkpoint import shapes_of
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError
from vidom.wording import some

__all__ = ["load_pretrained"]

_log = logging.getLogger(__name__)


def load_pretrained(network: nn.Module, path: str) -> None:
    """Set the network's weights from a checkpoint of the same network, of any classes, or of an image ResNet.

    An image ResNet has torchvision's keys (`layer1.0.conv1.weight`, `bn1.bias`), and its filters are inflated in time
    where the network's are 3-D: repeated, and divided by their number (Carreira and Zisserman, 2017). The classifier
    of another class count keeps its random weights, and so does whatever the file lacks; both are reported.

    Raises BadDataError where the file is damaged or fits the network nowhere, or a backbone weight is missing.
    """
    state = network.state_dict()
    tensors = read_torch(path).state_dict
    if not state.keys() & tensors.keys():
        tensors = _from_torchvision(tensors, state)
    fitted = {key: _inflated(tensor, state[key]) for key, tensor in tensors.items() if key in state}
    taken = {key: tensor for key, tensor in fitted.items() if tensor.shape == state[key].shape}
    left = [key for key in state if key not in taken and not key.endswith("num_batches_tracked")]
    wrong = [key for key in left if not key.startswith("cls_head.")]
    if not taken or wrong:
        shapes = shapes_of(state)
        raise BadDataError(
            f"The checkpoint {path} does not fit the recipe's network: it has no "
            f"{some(f'{key} {list(shapes[key])}' for key in wrong)}. Give a checkpoint of the same network, or of an "
            "image ResNet of the same depth."
        )
    network.load_state_dict({**state, **taken})
    if left:
        _log.warning(f"{path} has other classes; these keep their random weights: {some(left)}.")
    if unused := sorted(tensors.keys() - taken.keys() - set(left)):
        _log.warning(f"Not used of {path}: {some(unused)}.")


def _from_torchvision(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an image ResNet's tensors under the network's keys."""
    names = {_torchvision_name(key): key for key in state if key.startswith("backbone.")}
    return {names.get(name, name): tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _torchvision_name(key: str) -> str:
    """Return torchvision's name of one of the network's keys: backbone.layer1.0.conv2.bn.bias is layer1.0.bn2.bias."""
    *parents, module, leaf = key.removeprefix("backbone.").split(".")
    if module == "net":
        module = parents.pop()
    owner = parents[-1]
    if owner == "downsample":
        return ".".join([*parents, "0" if module == "conv" else "1", leaf])
    return ".".join([*parents[:-1], owner if module == "conv" else owner.replace("conv", "bn"), leaf])


def _inflated(tensor: Tensor, target: Tensor) -> Tensor:
    if (tensor.ndim, target.ndim) != (4, 5):
        return tensor
    depth = target.shape[2]
    return tensor[:, :, None].expand(-1, -1, depth, -1, -1) / depth
