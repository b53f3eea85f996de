"""Small TSM and PP-TSM as exported graphs, weights such that logits depend on the clip."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir
import torch
from surgery_graphs import torch_graph
from torch import Tensor, nn

from networks.pptsm import PPTSM
from networks.seeded import seeded_state_dict
from networks.tsm import TSM


class Clips(nn.Module):
    """A network whose clips are averaged by sample and turned into probabilities."""

    def __init__(self, network: nn.Module, clips: int, average: str) -> None:
        super().__init__()
        self.network, self.clips, self.average = network, clips, average

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        logits = logits.reshape(-1, self.clips, int(logits.shape[-1]))
        return logits.mean(1).softmax(-1) if self.average == "score" else logits.softmax(-1).mean(1)


@cache
def exported(
    arch: str, *, segments: int = 4, clips: int = 1, depth: int = 50, width: int = 16, average: str = "score"
) -> ir.Model:
    """Return the graph of a network of `width` channels in its stem, for batch 1 of frames of 32 pixels."""
    build = {"tsm": TSM, "pptsm": PPTSM, "tsn": TSM}[arch]
    options: dict[str, object] = {"backbone_segments": segments} if arch == "pptsm" else {}
    if arch == "tsn":
        options["shift"] = False
    network = build(depth=depth, num_classes=7, num_segments=segments, base_channels=width, **options)
    state = network.state_dict()
    network.load_state_dict(
        seeded_state_dict({key: value.shape for key, value in state.items()}, seed=0), strict=True
    )
    torch.manual_seed(0)
    return torch_graph(Clips(network, clips, average), 1, clips * segments, 3, 32, 32)
