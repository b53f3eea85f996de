"""The weights that a training begins from: another checkpoint's, as far as they fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import shapes_of
from networks.i3d import I3D
from networks.pptsm import PPTSM
from networks.stnet import StNet
from networks.tsm import TSM
from vidom.errors import BadDataError
from vidom.wording import some

__all__ = ["load_pretrained"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Start:
    """What a network takes of a checkpoint that is not wholly its own.

    `rename(tensors, state)` returns the tensors of an image ResNet under the network's keys. Keys that start with
    `classifier` keep their random weights where the classes differ, those with `temporal` where the file is of an image
    ResNet, which does not have them.
    """

    rename: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]
    classifier: str
    temporal: tuple[str, ...] = ()


def load_pretrained(network: nn.Module, path: str) -> None:
    """Set the network's weights from a checkpoint of the same network, of any classes, or of an image ResNet.

    The file is of any supported format. An image ResNet has torchvision's keys (`layer1.0.conv1.weight`, `bn1.bias`),
    MindSpore's or, for PP-TSM, those of PaddleClas' ResNet-D (`bb_0_0.conv0._conv.weight`). Its filters are inflated in
    time where the network's are 3-D: repeated, and divided by their number (Carreira and Zisserman, 2017); so are those
    of StNet's stem, which takes the planes of N frames: the mean over the colours, divided by N, for each. What the
    file lacks keeps its random weights: the classifier of another class count, and StNet's temporal blocks and
    Xception. It is reported, and so is what of the file is not used.

    Raises BadDataError where the file is damaged or fits the network nowhere, or a backbone weight is missing.
    """
    state, start = network.state_dict(), _STARTS[type(network)]
    tensors: Mapping[str, Tensor] = read_any(path).state_dict
    image = not any(key in state and key.startswith(start.temporal or ("",)) for key in tensors)
    named = start.rename(tensors, state) if image else tensors
    fitted = {key: _inflated(tensor, state[key]) for key, tensor in named.items() if key in state}
    taken = {key: tensor for key, tensor in fitted.items() if tensor.shape == state[key].shape}
    left = [key for key in state if key not in taken and not key.endswith("num_batches_tracked")]
    allowed = (start.classifier, *(start.temporal if image else ()))
    wrong = [key for key in left if not key.startswith(allowed)]
    if not taken or wrong:
        shapes = shapes_of(state)
        raise BadDataError(
            f"The checkpoint {path} does not fit the recipe's network: it has no "
            f"{some(f'{key} {list(shapes[key])}' for key in wrong)}. Give a checkpoint of the same network, or of an "
            "image ResNet of the same depth."
        )
    network.load_state_dict({**state, **taken})
    if left:
        what = "is of an image ResNet" if image else "has other classes"
        _log.warning(f"{path} {what}; these keep their random weights: {some(left)}.")
    if unused := sorted(named.keys() - taken.keys() - set(left)):
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


def _from_resnet(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an image ResNet's tensors but for its classifier; StNet's backbone has the same keys."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _from_resnet_vd(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ResNet-D of PaddleClas but for its classifier; PP-TSM's backbone has its keys behind `backbone.`."""
    return {
        f"backbone.{name}": tensor for name, tensor in tensors.items() if not name.startswith(("fc.", "out."))
    }


def _inflated(tensor: Tensor, target: Tensor) -> Tensor:
    if (tensor.ndim, target.ndim) == (4, 5):
        depth = target.shape[2]
        return tensor[:, :, None].expand(-1, -1, depth, -1, -1) / depth
    if tensor.ndim == 4 and tensor.shape[1] == 3 and target.shape[1] > 3:
        planes = target.shape[1]
        return (tensor.mean(1, keepdim=True) / (planes // 3)).expand(-1, planes, -1, -1)
    return tensor


_STARTS: Mapping[type[nn.Module], _Start] = MappingProxyType(
    {
        TSM: _Start(_from_torchvision, "cls_head."),
        I3D: _Start(_from_torchvision, "cls_head."),
        PPTSM: _Start(_from_resnet_vd, "head."),
        StNet: _Start(_from_resnet, "fc.", temporal=("temp1.", "temp2.", "xception.")),
    }
)
