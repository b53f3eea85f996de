"""I3D: a ResNet inflated to three dimensions, in which some 1x1 convolutions become 3x1x1.

Carreira, Zisserman: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, as the
ResNet of Wang et al., "Non-local Neural Networks", CVPR 2018, in the form that mmaction2 trains and publishes
(`mmaction/models/backbones/resnet3d.py`, `heads/i3d_head.py`, v0.24.1, configuration
`i3d_r50_32x2x1_100e_kinetics400_rgb`). Module names are chosen so that `state_dict()` has mmaction2's keys in
mmaction2's order.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.arguments import require

__all__ = ["I3D"]

_require = partial(require, network="I3D")

_Size = tuple[int, int, int]
"""Frames, height, width."""

# depth: blocks per stage.
_LAYOUTS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class ConvNorm(nn.Module):
    """A bias-free convolution with same padding, batch normalisation and, where `activate`, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: _Size, *, stride: _Size = (1, 1, 1), activate: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(outputs)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, outputs, T / stride, H / stride, W / stride] of `x: [N, inputs, T, H, W]`."""
        x = self.bn(self.conv(x))
        return functional.relu(x, inplace=True) if self.activate else x


class Block(nn.Module):
    """A bottleneck: `relu(convolutions(x) + shortcut(x))`, its spatial stride on the 1x3x3 convolution.

    An inflated block starts with a 3x1x1 convolution over the previous, current and next frame, any other with a
    1x1x1 convolution. Neither changes the number of frames.
    """

    def __init__(self, inputs: int, width: int, *, stride: int, inflated: bool) -> None:
        super().__init__()
        self.outputs = width * 4
        steps = (1, stride, stride)
        self.conv1 = ConvNorm(inputs, width, (3 if inflated else 1, 1, 1))
        self.conv2 = ConvNorm(width, width, (1, 3, 3), stride=steps)
        self.conv3 = ConvNorm(width, self.outputs, (1, 1, 1), activate=False)
        self.downsample: ConvNorm | None = None
        if stride != 1 or inputs != self.outputs:
            self.downsample = ConvNorm(inputs, self.outputs, (1, 1, 1), stride=steps, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, outputs, T, H / stride, W / stride]` of `x: [N, inputs, T, H, W]`."""
        residual = self.conv3(self.conv2(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(residual + shortcut, inplace=True)


class Backbone(nn.Module):
    """A ResNet from clips `[N, 3, T, H, W]` to features `[N, channels, T / 8, H / 32, W / 32]`."""

    def __init__(
        self, *, depth: int, base_channels: int, conv1_stride_t: int, pool1_stride_t: int, inflate_all: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, base_channels, (5, 7, 7), stride=(conv1_stride_t, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), stride=(pool1_stride_t, 2, 2), padding=(0, 1, 1))
        # The original always has this pooling, and no configuration mentions it.
        self.pool2 = nn.MaxPool3d((2, 1, 1), stride=(2, 1, 1))
        self.channels = base_channels
        for stage, count in enumerate(_LAYOUTS[depth]):
            blocks = []
            for index in range(count):
                block = Block(
                    self.channels,
                    base_channels << stage,
                    stride=2 if stage and not index else 1,
                    inflated=inflate_all or _is_inflated(stage, index),
                )
                self.channels = block.outputs
                blocks.append(block)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, clips: Tensor) -> Tensor:
        """Return the last stage's features of `clips`; raises RuntimeError for clips with too few frames for pool2."""
        x = self.get_submodule("layer1")(self.maxpool(self.conv1(clips)))
        x = self.pool2(x)
        for name in ("layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return x  # type: ignore[no-any-return]


class Head(nn.Module):
    """Features of clips to their logits: mean over time and image, then the classifier."""

    def __init__(self, channels: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[N, num_classes]` for `features: [N, channels, t, h, w]`."""
        return self.fc_cls(self.dropout(torch.flatten(self.avg_pool(features), 1)))  # type: ignore[no-any-return]


class I3D(nn.Module):
    """A network from views, each a clip of T frames, to one row of logits per view.

    The defaults are those of the models published by mmaction2, for frames, videos and dense sampling. Its "heavy"
    configuration has conv1_stride_t=1, pool1_stride_t=1 and inflate_all=True, for clips of 8 frames.

    Args:
        depth: 50 or, for experiments, 26.
        num_classes: the number of classes.
        conv1_stride_t: temporal stride of the stem.
        pool1_stride_t: temporal stride of the stem's max pool. The pool is one frame deep, so a stride of 2 drops every
            second frame of the stem: conv1_stride_t=4 with pool1_stride_t=1 gives the same logits from the same weights
            with half of the stem's operations.
        inflate_all: inflate every block, not only those of mmaction2's pattern.
        base_channels: width of the stem, 64 in every published model.
        dropout: probability of the head's dropout in training.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        num_classes: int,
        conv1_stride_t: int = 2,
        pool1_stride_t: int = 2,
        inflate_all: bool = False,
        base_channels: int = 64,
        dropout: float = 0.5,
    ) -> None:
        counts = {"num_classes": num_classes, "base_channels": base_channels}
        counts |= {"conv1_stride_t": conv1_stride_t, "pool1_stride_t": pool1_stride_t}
        _require(depth, depth in _LAYOUTS, name="depth", allowed=f"one of {', '.join(map(str, _LAYOUTS))}")
        for name, value in counts.items():
            _require(value, value >= 1, name=name, allowed="at least 1")
        _require(dropout, 0 <= dropout < 1, name="dropout", allowed="at least 0 and less than 1")
        super().__init__()
        self.backbone = Backbone(
            depth=depth,
            base_channels=base_channels,
            conv1_stride_t=conv1_stride_t,
            pool1_stride_t=pool1_stride_t,
            inflate_all=inflate_all,
        )
        self.cls_head = Head(self.backbone.channels, num_classes=num_classes, dropout=dropout)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B * V, num_classes]` for `x: [B, V, 3, T, H, W]` float32.

        View v of sample b is row b * V + v, as in mmaction2's `forward_dummy`. Views are independent.
        """
        # int() makes the sizes constants of a traced graph; only the number of views stays symbolic (-1).
        views = x.reshape(-1, *(int(size) for size in x.shape[2:]))
        return self.cls_head(self.backbone(views))  # type: ignore[no-any-return]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.cls_head.fc_cls.weight, std=0.01)
        nn.init.zeros_(self.cls_head.fc_cls.bias)


def _is_inflated(stage: int, index: int) -> bool:
    """Return whether mmaction2 inflates a block: all of stage 0, every other one of 1 and 2, the second of 3."""
    if stage == 0:
        return True
    return index % 2 == (1 if stage == 3 else 0)
