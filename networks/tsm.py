"""TSM: a 2-D ResNet whose residual branches get some channels of the previous and of the next frame.

Lin, Gan, Han: "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, in the form that
mmaction2 trains and publishes (`mmaction/models/backbones/resnet_tsm.py`, `heads/tsm_head.py`, v0.24.1).
Module names are chosen so that `state_dict()` has mmaction2's keys in mmaction2's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.arguments import require
from networks.shift import temporal_shift

__all__ = ["TSM"]

_require = partial(require, network="TSM")

# depth: blocks per stage, and whether a block is a bottleneck (1x1, 3x3, 1x1) or basic (3x3, 3x3).
_LAYOUTS = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}


@dataclass(frozen=True)
class Shift:
    """The parameters of `temporal_shift`."""

    num_segments: int
    shift_div: int


class ShiftedConv(nn.Module):
    """The convolution `net`, applied to its input after the temporal shift."""

    def __init__(self, net: nn.Module, shift: Shift) -> None:
        super().__init__()
        self.net = net
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """Return `net` of the shifted frames `x: [clips * num_segments, C, H, W]`."""
        shifted = temporal_shift(x, num_segments=self.shift.num_segments, shift_div=self.shift.shift_div)
        return self.net(shifted)  # type: ignore[no-any-return]


class ConvNorm(nn.Module):
    """An optional shift, a bias-free convolution, batch normalisation and, where `activate`, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        activate: bool = True,
        shift: Shift | None = None,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.conv = ShiftedConv(conv, shift) if shift else conv
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, outputs, H / stride, W / stride]` of `x: [N, inputs, H, W]`."""
        x = self.bn(self.conv(x))
        return functional.relu(x, inplace=True) if self.activate else x


class Block(nn.Module):
    """A residual block: `relu(convolutions(x) + shortcut(x))`, its stride on the first 3x3 convolution.

    The shift precedes the first convolution; the shortcut gets the unshifted frames ("blockres").
    """

    def __init__(
        self, inputs: int, width: int, *, stride: int, bottleneck: bool, shift: Shift | None
    ) -> None:
        super().__init__()
        self.outputs = width * 4 if bottleneck else width
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = ConvNorm(inputs, width, 1, shift=shift)
            self.conv2 = ConvNorm(width, width, 3, stride=stride)
            self.conv3 = ConvNorm(width, self.outputs, 1, activate=False)
        else:
            self.conv1 = ConvNorm(inputs, width, 3, stride=stride, shift=shift)
            self.conv2 = ConvNorm(width, width, 3, activate=False)
        self.downsample: ConvNorm | None = None
        if stride != 1 or inputs != self.outputs:
            self.downsample = ConvNorm(inputs, self.outputs, 1, stride=stride, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, outputs, H / stride, W / stride]` of `x: [N, inputs, H, W]`."""
        residual = self.conv2(self.conv1(x))
        if self.bottleneck:
            residual = self.conv3(residual)
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(residual + shortcut, inplace=True)


class Backbone(nn.Module):
    """A ResNet from frames `[N, 3, H, W]` to features `[N, channels, H / 32, W / 32]`."""

    def __init__(self, *, depth: int, base_channels: int, shift: Shift | None) -> None:
        super().__init__()
        counts, bottleneck = _LAYOUTS[depth]
        # The original shifts only every second block of all stages where the third has 23 or more blocks (ResNet-101).
        every = 2 if counts[2] >= 23 else 1
        self.conv1 = ConvNorm(3, base_channels, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = base_channels
        self.stages = [f"layer{stage + 1}" for stage in range(len(counts))]
        for stage, (name, count) in enumerate(zip(self.stages, counts, strict=True)):
            blocks = []
            for index in range(count):
                block = Block(
                    self.channels,
                    base_channels << stage,
                    stride=2 if stage and not index else 1,
                    bottleneck=bottleneck,
                    shift=None if index % every else shift,
                )
                self.channels = block.outputs
                blocks.append(block)
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the last stage's features of `frames`."""
        x = self.maxpool(self.conv1(frames))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x  # type: ignore[no-any-return]


class Head(nn.Module):
    """Features of frames to logits of clips: mean over the image, classifier per frame, mean over segments."""

    def __init__(self, channels: int, *, num_classes: int, num_segments: int, dropout: float) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[N / num_segments, num_classes]` for `features: [N, channels, h, w]`."""
        frames = self.fc_cls(self.dropout(torch.flatten(self.avg_pool(features), 1)))
        clips: Tensor = frames.reshape(-1, self.num_segments, self.fc_cls.out_features)
        return clips.mean(dim=1)


class TSM(nn.Module):
    """A network from frames to one row of logits per clip of `num_segments` frames.

    Args:
        depth: 10, 18, 34 (basic blocks), 50 or 101 (bottlenecks).
        num_classes: the number of classes.
        num_segments: frames per clip.
        shift_div: the shift moves 1/`shift_div` of the channels in each direction before every block's first
            convolution; where the third stage has 23 blocks (depth 101), before every second block's.
        shift: False gives TSN, the baseline without temporal modelling (its keys have no `.net`).
        base_channels: width of the stem, 64 in every published model.
        dropout: probability of the head's dropout in training.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        num_segments: int = 8,
        shift_div: int = 8,
        shift: bool = True,
        base_channels: int = 64,
        dropout: float = 0.5,
    ) -> None:
        counts = {"num_classes": num_classes, "num_segments": num_segments, "base_channels": base_channels}
        _require(depth, depth in _LAYOUTS, name="depth", allowed=f"one of {', '.join(map(str, _LAYOUTS))}")
        for name, value in counts.items():
            _require(value, value >= 1, name=name, allowed="at least 1")
        # Below 2 the two parts would overlap; above the stem's width no channel would be shifted.
        allowed = f"between 2 and base_channels ({base_channels})"
        _require(shift_div, not shift or 2 <= shift_div <= base_channels, name="shift_div", allowed=allowed)
        _require(dropout, 0 <= dropout < 1, name="dropout", allowed="at least 0 and less than 1")
        super().__init__()
        self.backbone = Backbone(
            depth=depth,
            base_channels=base_channels,
            shift=Shift(num_segments=num_segments, shift_div=shift_div) if shift else None,
        )
        self.cls_head = Head(
            self.backbone.channels, num_classes=num_classes, num_segments=num_segments, dropout=dropout
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B * M / num_segments, num_classes]` for `x: [B, M, 3, H, W]` float32.

        The rows are clip-major: clip c of sample b, its frames c*num_segments onwards, is row
        b * M / num_segments + c, as in mmaction2's `forward_dummy`. Raises ValueError when M is not a multiple of
        num_segments: clips would span samples.
        """
        if int(x.shape[1]) % self.cls_head.num_segments:
            raise ValueError(
                f"{x.shape[1]} frames are not a multiple of the clip length {self.cls_head.num_segments}"
            )
        return self.of_frames(x.reshape(-1, *(int(size) for size in x.shape[2:])))

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return logits `[N / num_segments, num_classes]` for `frames: [N, 3, H, W]`, clip after clip."""
        return self.cls_head(self.backbone(frames))  # type: ignore[no-any-return]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.cls_head.fc_cls.weight, std=0.001)
        nn.init.zeros_(self.cls_head.fc_cls.bias)
