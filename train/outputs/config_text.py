"""The configuration that mmaction2 stores with a checkpoint, as far as the network depends on it."""

from __future__ import annotations

from typing import Any

from vidom.formats.recipe import Recipe
from vidom.formats.recipe_parts.network_sections import I3dSection, TsmSection

__all__ = ["config_text"]


def config_text(recipe: Recipe) -> str:
    """Return Python assignments, as `Config.pretty_text` of mmcv, that say what the recipe's network was trained with.

    mmcv reads them when it resumes; vidom compares them with the recipe when it loads the checkpoint.
    """
    section, views = recipe.training
    pipeline = [
        {
            "type": "DenseSampleFrames" if section.sampling == "dense" else "SampleFrames",
            "clip_len": views.clip_len,
            "frame_interval": views.frame_interval,
            "num_clips": views.num_segments,
        },
        {"type": "Normalize", "mean": list(views.mean), "std": list(views.std), "to_bgr": False},
    ]
    entries = {"model": _model(recipe), "train_pipeline": pipeline, "total_epochs": section.epochs}
    return "".join(f"{name} = {value!r}\n" for name, value in entries.items())


def _model(recipe: Recipe) -> dict[str, Any]:
    network, segments = recipe.network, recipe.training[1].num_segments
    head: dict[str, Any] = {"num_classes": recipe.dataset.num_classes}
    if isinstance(network, I3dSection):
        backbone = {
            "type": "ResNet3d",
            "depth": network.depth,
            "conv1_stride_t": network.conv1_stride_t,
            "pool1_stride_t": network.pool1_stride_t,
        }
        return {"type": "Recognizer3D", "backbone": backbone, "cls_head": {"type": "I3DHead", **head}}
    if isinstance(network, TsmSection) and network.shift:
        backbone = {
            "type": "ResNetTSM",
            "depth": network.depth,
            "num_segments": segments,
            "shift_div": network.shift_div,
        }
        return {
            "type": "Recognizer2D",
            "backbone": backbone,
            "cls_head": {"type": "TSMHead", **head, "num_segments": segments},
        }
    if isinstance(network, TsmSection):
        return {
            "type": "Recognizer2D",
            "backbone": {"type": "ResNet"},
            "cls_head": {"type": "TSNHead", **head},
        }
    # mmaction2 has no such network.
    return {"type": network.arch, "cls_head": head}
