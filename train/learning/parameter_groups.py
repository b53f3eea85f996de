"""Optimizers and their parameter groups, as the original frameworks form them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vidom.formats.recipe_parts.train_section import Sgd, TrainSection

__all__ = [
    "build_optimizer",
    "pptsm_groups",
    "single_group",
    "tsm_groups",
    "without_decay_1d",
    "without_decay_norm",
]

Groups = list[dict[str, Any]]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)


def build_optimizer(network: nn.Module, section: TrainSection, *, lr: float) -> Optimizer:
    """Return the section's optimizer of the network's parameters; each group's `initial_lr` is its rate at factor 1."""
    settings = section.optimizer
    groups = _GROUPS[settings.groups](network, lr, settings.weight_decay)
    for group in groups:
        group["initial_lr"] = group["lr"]
    if isinstance(settings, Sgd):
        return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov)
    return torch.optim.AdamW(groups, lr=lr)


def single_group(network: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Return one group of all parameters, as mmcv does by default: normalisation and biases decay too."""
    return [{"params": _trainable(network), "lr": lr, "weight_decay": weight_decay}]


def without_decay_1d(network: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Return two groups: weights, and normalisation with biases, which do not decay."""
    parameters = _trainable(network)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]


def without_decay_norm(network: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Return two groups: weights and biases, and the scales and offsets of normalisation, which do not decay.

    MindSpore's optimizers leave out every parameter whose name contains `gamma` or `beta`, also where all were given
    as one group. Source: mindspore/nn/optim/optimizer.py of MindSpore 2.7.
    """
    norms = [
        parameter
        for module in network.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    ]
    excluded = set(map(id, norms))
    return [
        {
            "params": [p for p in _trainable(network) if id(p) not in excluded],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {"params": [p for p in norms if p.requires_grad], "lr": lr, "weight_decay": 0.0},
    ]


def tsm_groups(network: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Return the seven groups of mmaction2's TSMOptimizerConstructor with `fc_lr5`, two of them empty for a ResNet.

    Stem weight, stem bias, other convolution weights, biases, normalisation, classifier weight (five times the rate),
    classifier bias (ten times). Biases do not decay and have twice the rate; normalisation does not decay.
    Source: mmaction/core/optimizer/tsm_optimizer_constructor.py of mmaction2 0.24.
    """
    parts: tuple[list[Tensor], ...] = ([], [], [], [], [], [], [])
    stem, stem_bias, weights, biases, norms, classifier, classifier_bias = parts
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            first = not stem
            (stem if first else weights).append(module.weight)
            if module.bias is not None:
                (stem_bias if first else biases).append(module.bias)
        elif isinstance(module, nn.Linear):
            classifier.append(module.weight)
            classifier_bias.append(module.bias)
        elif isinstance(module, _NORMS):
            norms.extend(module.parameters(recurse=False))
    factors = ((1, 1), (2, 0), (1, 1), (2, 0), (1, 0), (5, 1), (10, 0))
    return [
        {
            "params": [parameter for parameter in part if parameter.requires_grad],
            "lr": lr * rate,
            "weight_decay": weight_decay * decay,
        }
        for part, (rate, decay) in zip(parts, factors, strict=True)
    ]


def pptsm_groups(network: nn.Module, lr: float, weight_decay: float) -> Groups:
    """Return the four kinds of parameters of PaddleVideo's PP-TSM, which states rate and decay with each parameter.

    Convolutions, normalisation (no decay), classifier weight (five times the rate), classifier bias (ten times, no
    decay). Source: resnet_tweaks_tsm.py and pptsm_head.py of PaddleVideo, where the classifier's decay is 1e-4 whatever
    the configuration says; all of its configurations say 1e-4.
    """
    groups = [
        *without_decay_1d(network.get_submodule("backbone"), lr, weight_decay),
        *without_decay_1d(network.get_submodule("head"), lr, weight_decay),
    ]
    for group, factor in zip(groups, (1, 1, 5, 10), strict=True):
        group["lr"] *= factor
    return groups


def _trainable(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


_GROUPS: Mapping[str, Callable[[nn.Module, float, float], Groups]] = MappingProxyType(
    {
        "single": single_group,
        "tsm": tsm_groups,
        "pptsm": pptsm_groups,
        "no_decay_1d": without_decay_1d,
        "no_decay_norm": without_decay_norm,
    }
)
