"""StNet: a 2-D ResNet over super-images, with a temporal convolution after its second and third stage.

He et al.: "StNet: Local and Global Spatial-Temporal Modeling for Action Recognition", AAAI 2019, in the form that
MindSpore trains and publishes (`mindspore-ai/models`, research/cv/stnet, `src/Stnet_Res_model.py`). It differs from
Paddle's original in the stem's pooling, in the dense temporal convolutions of the head, and in returning logits.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.arguments import require
from networks.same_pool import max_pool_same_upper

__all__ = ["StNet"]

_require = partial(require, network="StNet")

_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4
_LAYOUTS = ("A", "B")


class Bottleneck(nn.Module):
    """A residual block: `relu(1x1, 3x3, 1x1 (x) + shortcut(x))`, its stride on the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, *, stride: int, project: bool) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if project:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, 4 * width, H / stride, W / stride]` of `x: [N, inputs, H, W]`."""
        branch = functional.relu(self.bn1(self.conv1(x)))
        branch = functional.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(branch + shortcut)


class TemporalBlock(nn.Module):
    """`x + bn(relu(conv(x)))` with a convolution over three neighbouring segments, without a final activation."""

    def __init__(self, channels: int, *, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.bn1 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x: [clips * num_segments, C, H, W]`."""
        sizes = [int(size) for size in x.shape[1:]]
        clips = x.reshape(-1, self.num_segments, *sizes).transpose(1, 2)
        mixed = clips + self.bn1(functional.relu(self.conv1(clips)))
        return mixed.transpose(1, 2).reshape(-1, *sizes)  # type: ignore[no-any-return]


class TemporalXception(nn.Module):
    """Two convolutions over neighbouring segments, each followed by a 1x1, in parallel to a 1x1 of the same input."""

    def __init__(self, inputs: int, outputs: int, *, depthwise: bool) -> None:
        super().__init__()
        over_time = {"kernel_size": (3, 1), "padding": (1, 0)}
        self.bn1 = nn.BatchNorm2d(inputs)
        self.att_conv = nn.Conv2d(inputs, inputs, groups=inputs if depthwise else 1, **over_time)  # type: ignore[arg-type]
        self.att_2 = nn.Conv2d(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.att_1 = nn.Conv2d(outputs, outputs, groups=outputs if depthwise else 1, **over_time)  # type: ignore[arg-type]
        self.att1_2 = nn.Conv2d(outputs, outputs, 1)
        self.dw = nn.Conv2d(inputs, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[B, outputs, T, 1]` of `x: [B, inputs, T, 1]`."""
        x = self.bn1(x)
        branch = functional.relu(self.bn2(self.att_2(self.att_conv(x))))
        branch = self.att1_2(self.att_1(branch))
        return functional.relu(self.bn3(branch + self.dw(x)))


class StNet(nn.Module):
    """A network from super-images to one row of logits per clip; depth 50, no dropout, no softmax.

    A clip is `num_segments` segments of `frames_per_segment` consecutive frames (T and N below). The two input layouts:

    - "A" (MindSpore 1.3 to 1.8): `[B, T, 3N, H, W]`, frame by frame, each red, green, blue;
    - "B" (r1.9 to master): `[B, 3, T*N, H, W]`. These versions reshape the planes to `[B*T, 3N, H, W]` in memory order,
      so that their "segments" are runs of one colour. The layout cannot be detected from a checkpoint; the one
      published for Kinetics is assumed to be A.

    Args:
        num_classes: the number of classes.
        num_segments: segments per clip.
        frames_per_segment: frames per segment.
        depthwise: depthwise temporal convolutions in the head, as in Paddle; the published code has dense ones.
        input_layout: "A" or "B".
        pool_size: size of the last feature map, 7 for 224 pixels, 4 for the 112 of UCF101.
        base_channels: width of the stem, 64 in every published model.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_segments: int = 7,
        frames_per_segment: int = 5,
        depthwise: bool = False,
        input_layout: str = "A",
        pool_size: int = 7,
        base_channels: int = 64,
    ) -> None:
        counts = {
            "num_classes": num_classes,
            "num_segments": num_segments,
            "frames_per_segment": frames_per_segment,
            "pool_size": pool_size,
            "base_channels": base_channels,
        }
        for name, value in counts.items():
            _require(value, value >= 1, name=name, allowed="at least 1")
        _require(input_layout, input_layout in _LAYOUTS, name="input_layout", allowed="A or B")
        super().__init__()
        self.num_segments, self.pool_size = num_segments, pool_size
        planes = 3 * frames_per_segment
        self.lead = (num_segments, planes) if input_layout == "A" else (3, num_segments * frames_per_segment)
        self.planes = planes
        widths = [base_channels << stage for stage in range(len(_BLOCKS))]
        self.conv1 = nn.Conv2d(planes, base_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.layer1 = _stage(base_channels, widths[0], count=_BLOCKS[0], stride=1)
        self.layer2 = _stage(widths[0] * _EXPANSION, widths[1], count=_BLOCKS[1], stride=2)
        self.temp1 = TemporalBlock(widths[1] * _EXPANSION, num_segments=num_segments)
        self.layer3 = _stage(widths[1] * _EXPANSION, widths[2], count=_BLOCKS[2], stride=2)
        self.temp2 = TemporalBlock(widths[2] * _EXPANSION, num_segments=num_segments)
        self.layer4 = _stage(widths[2] * _EXPANSION, widths[3], count=_BLOCKS[3], stride=2)
        self.op_avg = nn.AvgPool2d(pool_size, stride=1)
        self.features = widths[3] * _EXPANSION
        self.xception = TemporalXception(self.features, self.features // 2, depthwise=depthwise)
        self.maxpool1 = nn.MaxPool2d((num_segments, 1), stride=1)
        self.fc = nn.Linear(self.features // 2, num_classes)
        # As the original; torch's defaults are those of its other layers.
        for part in (self.temp1, self.temp2, self.xception):
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    nn.init.kaiming_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` for `x: [B, *lead, H, W]` float32, with the layout's `lead`.

        Raises ValueError for a different shape, or an H and W whose last feature map is not `pool_size` squared: the
        original would mix the rest of a larger map into the batch.
        """
        sizes = tuple(int(size) for size in x.shape[1:])
        if sizes[:2] != self.lead:
            raise ValueError(f"a sample of shape {sizes} does not start with {self.lead}")
        x = functional.relu(self.bn1(self.conv1(x.reshape(-1, self.planes, *sizes[2:]))))
        x = max_pool_same_upper(x, kernel=3, stride=2)
        x = self.temp1(self.layer2(self.layer1(x)))
        x = self.layer4(self.temp2(self.layer3(x)))
        found = tuple(int(size) for size in x.shape[2:])
        if found != (self.pool_size, self.pool_size):
            raise ValueError(f"the last feature map is {found}, not {self.pool_size} squared")
        x = self.op_avg(x).reshape(-1, self.num_segments, self.features, 1).transpose(1, 2)
        x = self.maxpool1(self.xception(x))
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


def _stage(inputs: int, width: int, *, count: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride=stride, project=True)
    rest = (Bottleneck(width * _EXPANSION, width, stride=1, project=False) for _ in range(1, count))
    return nn.Sequential(first, *rest)
