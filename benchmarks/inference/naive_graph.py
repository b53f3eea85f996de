"""The graph of mmaction2's own exporter for a recipe, with the weights of vidom's export."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from export.to_onnx import ToOnnxOptions, to_onnx
from networks.deployable import INPUT_NAME, build_deployable
from networks.tsm import ShiftedConv
from vidom.files import atomic_path, write_bytes
from vidom.formats.recipe import Recipe

__all__ = ["naive_graph"]

_OPSET = 11


def naive_graph(*, recipe: Recipe, output: Path, checkpoint: str = "seeded:0", batch_size: int = 1) -> Path:
    """Write an ONNX model of `recipe` whose temporal shifts are the operators that mmaction2 exports.

    For TSM each shift is that of `mmaction/models/backbones/resnet_tsm.py` as TorchScript writes it: a view of four
    dimensions, three Slices into parts, zeros computed as the difference of a part with itself, four more Slices
    and three Concats; the fully connected layer runs per frame. Head and weights are those of `to_onnx`, so that both
    graphs give the same rows. For the other networks it is the graph of `to_onnx`.

    Raises what `to_onnx` raises.
    """
    if recipe.network.arch != "tsm":
        return to_onnx(
            ToOnnxOptions(recipe=recipe, checkpoint=checkpoint, output=output, batch_size=batch_size)
        )
    deployable, _ = build_deployable(recipe, checkpoint)
    for module in tuple(deployable.modules()):
        for name, child in tuple(module.named_children()):
            if isinstance(child, ShiftedConv):
                setattr(module, name, _NaiveShift(child))
    with atomic_path(output) as temporary:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            sample = torch.zeros(recipe.input_shape(1))
            torch.onnx.export(
                deployable,
                (sample,),
                temporary,
                opset_version=_OPSET,
                input_names=[INPUT_NAME],
                dynamo=False,
            )
        graph = run_passes(temporary, passes=["set-batch"], batch_size=batch_size).model
    write_bytes(output, model_bytes(graph))
    return output


class _NaiveShift(nn.Module):
    """A convolution after the temporal shift, with the zeros of the original."""

    def __init__(self, shifted: ShiftedConv) -> None:
        super().__init__()
        self.net = shifted.net
        self.shift = shifted.shift

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = (int(size) for size in x.shape)
        fold = channels // self.shift.shift_div
        clips = x.reshape(-1, self.shift.num_segments, channels, height * width)
        late, early, rest = clips[:, :, :fold], clips[:, :, fold : 2 * fold], clips[:, :, 2 * fold :]
        late = torch.cat((late[:, 1:], (late - late)[:, :1]), dim=1)
        early = torch.cat(((early - early)[:, :1], early[:, :-1]), dim=1)
        frames = torch.cat((late, early, rest), dim=2).reshape(-1, channels, height, width)
        return self.net(frames)  # type: ignore[no-any-return]
