"""Train sections for tests."""

from __future__ import annotations

from typing import Any

from vidom.formats.recipe_parts.train_section import TrainSection


def section(**entries: Any) -> TrainSection:
    """Return a small valid section with these entries changed."""
    document = {
        "epochs": 2,
        "batch_size": 2,
        "lr": 0.01,
        "optimizer": {"type": "sgd"},
        "schedule": {"type": "step", "milestones": [1]},
        "segments": 8,
        "crop_size": 224,
        "augmentation": {"crop": {"type": "center"}},
    }
    return TrainSection.model_validate({**document, **entries})
