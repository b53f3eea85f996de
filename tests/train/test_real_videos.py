"""A small network learns real videos by heart, through everything between the files and the loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from train.outputs.run_log import LOG_NAME
from train.train_options import TrainOptions
from train.training import train
from vidom.formats.recipe import load_recipe


@pytest.mark.slow
def test_real_videos_are_over_fitted(shared: Path, tmp_path: Path):
    folder = shared / "data" / "videos"
    videos = sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".avi"))
    # The same name is the same video in another container.
    classes = sorted({path.stem for path in videos})
    ann_file = tmp_path / "list.txt"
    ann_file.write_text("".join(f"{path.name} {classes.index(path.stem)}\n" for path in videos))
    recipe = load_recipe(
        "tsm_ucf101",
        [
            *("network.depth=10", "network.base_channels=16", f"dataset.num_classes={len(classes)}"),
            *("views.short_side=64", "views.crop_size=64", "train.crop_size=64", "train.segments=4"),
            *("train.augmentation={crop: {type: center}}", "train.dropout=0", "train.clip_norm=null"),
            *("train.optimizer={type: adamw}", "train.schedule={type: one_cycle}", "train.lr=0.01"),
            *("train.epochs=20", "train.batch_size=4"),
        ],
    )
    train(
        TrainOptions(
            recipe=recipe, data_root=folder, ann_file=ann_file, output_dir=tmp_path / "run", workers=0
        )
    )
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / LOG_NAME).read_text().splitlines()]
    assert losses[0] == pytest.approx(np.log(len(classes)), abs=0.1)
    assert max(losses[-3:]) < 0.05
