"""Each configuration of PP-TSM and StNet learns real data, and its export scores as the trained network does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.engine_options import OnnxRuntimeOptions, TorchOptions
from infer.engines.open import open_engine
from infer.one_video import sample_scores
from preprocess.datasets.sample_list import list_samples
from train.clips.clip_loader import ListedVideos
from train.outputs.run_log import LOG_NAME
from train.train_options import TrainOptions
from train.training import train
from vidom.formats.recipe import load_recipe

# Those of the two guides; PaddleVideo has dense ones for frames only.
CONFIGURATIONS = (
    ("pptsm_ucf101_66", "frames"),
    ("pptsm_ucf101_66", "videos"),
    ("pptsm_ucf101_66_dense", "frames"),
    ("pptsm_ucf101_66_dense_r101", "frames"),
    ("pptsm_k400_uniform", "frames"),
    ("pptsm_k400_uniform", "videos"),
    ("pptsm_k400_dense", "frames"),
    ("pptsm_k400_dense_r101", "frames"),
    ("stnet_k400", "packs"),
    ("stnet_k400", "videos"),
)
SAMPLES = {
    "frames": ("rawframes/part_0 32", "rawframes/test 300"),
    "videos": ("videos/part_0.mp4", "stnet/mp4/bartending/small096x072_000011_000021.mp4"),
    "packs": ("port0180x320_000002_000012", "tall256x400__000008_000018"),
}
SMALL = {"network.base_channels": 4, "views.num_segments": 3, "train.segments": 3, "train.epochs": 4}
SMALL_PPTSM = SMALL | {
    "network.backbone_segments": 3,
    "views.short_side": 40,
    "views.crop_size": 32,
    "train.crop_size": 32,
    "train.augmentation.crop.resize_to": 40,
    "train.epochs": 3,
    "train.lr": 0.005,
    "train.warmup.epochs": 1,
    "train.mixup": 0,
}
SMALL_STNET = SMALL | {
    "network.pool_size": 2,
    "views.short_side": 72,
    "views.crop_size": 64,
    "train.crop_size": 64,
}


def listed(shared: Path, source: str, folder: Path) -> tuple[Path, Path]:
    """Return the root of two samples of this kind, and a list of them in `folder`."""
    data, names = shared / "data", SAMPLES[source]
    if source != "packs":
        ann_file = folder / "list.txt"
        ann_file.write_text("".join(f"{name} {label}\n" for label, name in enumerate(names)))
        return data, ann_file
    (folder / "list").mkdir()
    for name in names:
        (folder / "list" / f"{name}.pkl").symlink_to(data / "stnet" / "pkl" / f"{name}.pkl")
    ann_file = folder / "list.json"
    ann_file.write_text(json.dumps([{"video_name": f"{name}.mp4"} for name in names]))
    return folder, ann_file


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source"), CONFIGURATIONS)
def test_it_learns_and_its_export_scores_the_same(
    shared: Path, tmp_path: Path, name: str, source: str
) -> None:
    small = SMALL_STNET if name == "stnet_k400" else SMALL_PPTSM
    recipe = load_recipe(name, [f"{key}={value}" for key, value in small.items()])
    data_root, ann_file = listed(shared, source, tmp_path)
    run = tmp_path / "run"
    train(TrainOptions(recipe=recipe, data_root=data_root, ann_file=ann_file, output_dir=run, workers=0))
    losses = [json.loads(line)["loss"] for line in (run / LOG_NAME).read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5

    checkpoint, model = run / "last.pth", tmp_path / "model.onnx"
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=str(checkpoint), output=model))
    network = TorchOptions(checkpoint=str(checkpoint), recipe=recipe, threads=1)
    engines = (
        open_engine(checkpoint, network, batch_size=1),
        open_engine(model, OnnxRuntimeOptions(threads=1)),
    )
    videos = ListedVideos(recipe, list_samples(ann_file, data_root=data_root, recipe=recipe), data_root)
    for annotation in videos.annotations:
        before, after = (sample_scores(engine, videos.source(annotation), recipe) for engine in engines)
        assert after.argmax() == before.argmax()
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
