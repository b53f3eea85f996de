"""PP-TSM: a tweaked ResNet whose residual branches get some channels of the previous and of the next frame.

The network of PaddleVideo (`paddlevideo/modeling/backbones/resnet_tweaks_tsm.py`, `heads/pptsm_head.py`). It differs
from TSM in leaky ReLU, a stem of three 3x3 convolutions (ResNet-C), shortcuts with average pooling before the
projection (ResNet-D), the opposite direction of the shift and, in the head, the mean over the segments before the
classifier. Module names are chosen so that `state_dict()` has Paddle's keys in Paddle's order, except for those that
`networks.checkpoints.pptsm_weights` translates.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.arguments import require
from networks.shift import paddle_temporal_shift

__all__ = ["PPTSM"]

_require = partial(require, network="PP-TSM")

# depth: bottleneck blocks per stage.
_LAYOUTS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_SLOPE = 0.01
_EXPANSION = 4


class ConvNorm(nn.Module):
    """A bias-free convolution, batch normalisation and, where `activate`, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self._conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self._batch_norm = nn.BatchNorm2d(outputs)
        self._activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, outputs, H / stride, W / stride]` of `x: [N, inputs, H, W]`."""
        x = self._batch_norm(self._conv(x))
        return functional.leaky_relu(x, _SLOPE, inplace=True) if self._activate else x


class Bottleneck(nn.Module):
    """A residual block: `leaky_relu(convolutions(shift(x)) + shortcut(x))`, its stride on the 3x3 convolution.

    The shortcut gets the unshifted frames. Where the stride is 2 it averages 2x2 pixels before the projection; at an
    odd edge it averages the existing pixels.
    """

    def __init__(self, inputs: int, width: int, *, stride: int, num_segments: int, project: bool) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv0 = ConvNorm(inputs, width, 1)
        self.conv1 = ConvNorm(width, width, 3, stride=stride)
        self.conv2 = ConvNorm(width, outputs, 1, activate=False)
        self.short = ConvNorm(inputs, outputs, 1, activate=False) if project else None
        self._num_segments = num_segments
        self._pooled = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, 4 * width, H / stride, W / stride]` of `x: [N, inputs, H, W]`."""
        shifted = paddle_temporal_shift(x, num_segments=self._num_segments)
        residual = self.conv2(self.conv1(self.conv0(shifted)))
        if self._pooled:
            # With count_include_pad=False all runtimes agree with torch on windows at the edge.
            x = functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        shortcut = x if self.short is None else self.short(x)
        return functional.leaky_relu(residual + shortcut, _SLOPE, inplace=True)


class Backbone(nn.Module):
    """A ResNet-D from frames `[N, 3, H, W]` to features `[N, channels, H / 32, W / 32]`, sizes rounded up."""

    def __init__(self, *, blocks: tuple[int, ...], base_channels: int, num_segments: int) -> None:
        super().__init__()
        half = base_channels // 2
        self.conv1_1 = ConvNorm(3, half, 3, stride=2)
        self.conv1_2 = ConvNorm(half, half, 3)
        self.conv1_3 = ConvNorm(half, base_channels, 3)
        self.pool2D_max = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = base_channels
        self._blocks = [(f"bb_{s}_{b}", s, b) for s, count in enumerate(blocks) for b in range(count)]
        for name, stage, index in self._blocks:
            block = Bottleneck(
                self.channels,
                base_channels << stage,
                stride=2 if stage and not index else 1,
                num_segments=num_segments,
                project=not index,
            )
            self.channels = (base_channels << stage) * _EXPANSION
            self.add_module(name, block)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the last stage's features of `frames`."""
        x = self.pool2D_max(self.conv1_3(self.conv1_2(self.conv1_1(frames))))
        for name, *_ in self._blocks:
            x = self.get_submodule(name)(x)
        return x  # type: ignore[no-any-return]


class Head(nn.Module):
    """Features of frames to logits of clips: mean over the image, mean over the segments, classifier.

    The classifier is linear, so TSM's order gives the same logits with num_segments times the operations.
    """

    def __init__(self, channels: int, *, num_classes: int, num_segments: int, dropout: float) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.avgpool2d = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[N / num_segments, num_classes]` for `features: [N, channels, h, w]`."""
        frames: Tensor = self.dropout(torch.flatten(self.avgpool2d(features), 1))
        clips = frames.reshape(-1, self.num_segments, self.fc.in_features)
        return self.fc(clips.mean(dim=1))  # type: ignore[no-any-return]


class PPTSM(nn.Module):
    """A network from frames to one row of logits per clip of `num_segments` frames.

    Args:
        depth: 50 or 101.
        num_classes: the number of classes.
        num_segments: frames per clip. Every block shifts 1/num_segments of its input's channels in each direction, so a
            model trained with 8 frames is a different network with 16.
        backbone_segments: `MODEL.backbone.num_seg` of a PaddleVideo configuration, 8 by default, while the head infers
            its segments from the input. Where the two differ, Paddle silently shifts within shorter clips than the
            head averages; this is rejected here.
        base_channels: width of the stem, 64 in every published model.
        dropout: probability of the dropout on each frame's features in training.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        num_segments: int = 8,
        backbone_segments: int = 8,
        base_channels: int = 64,
        dropout: float = 0.5,
    ) -> None:
        _require(depth, depth in _LAYOUTS, name="depth", allowed="50 or 101")
        _require(num_classes, num_classes >= 1, name="num_classes", allowed="at least 1")
        # With 2 segments or fewer the two parts would cover all channels; Paddle rejects this too.
        _require(num_segments, num_segments >= 3, name="num_segments", allowed="at least 3")
        _require(
            backbone_segments,
            backbone_segments == num_segments,
            name="backbone_segments",
            allowed=f"equal to the head's num_segments {num_segments} (set both for a different clip length)",
        )
        even = base_channels >= 2 and base_channels % 2 == 0
        _require(base_channels, even, name="base_channels", allowed="even and at least 2")
        _require(dropout, 0 <= dropout < 1, name="dropout", allowed="at least 0 and less than 1")
        super().__init__()
        self.backbone = Backbone(
            blocks=_LAYOUTS[depth], base_channels=base_channels, num_segments=backbone_segments
        )
        self.head = Head(
            self.backbone.channels, num_classes=num_classes, num_segments=num_segments, dropout=dropout
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B * M / num_segments, num_classes]` for `x: [B, M, 3, H, W]` float32.

        The rows are clip-major: clip c of sample b, its frames c*num_segments onwards, is row
        b * M / num_segments + c. PaddleVideo gives a row per sample, which is the mean of its clips' rows.
        Raises ValueError when M is not a multiple of num_segments: clips would span samples.
        """
        if int(x.shape[1]) % self.head.num_segments:
            raise ValueError(
                f"{x.shape[1]} frames are not a multiple of the clip length {self.head.num_segments}"
            )
        return self.of_frames(x.reshape(-1, *(int(size) for size in x.shape[2:])))

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return logits `[N / num_segments, num_classes]` for `frames: [N, 3, H, W]`, clip after clip."""
        return self.head(self.backbone(frames))  # type: ignore[no-any-return]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.normal_(self.head.fc.weight, std=0.01)
        nn.init.zeros_(self.head.fc.bias)
