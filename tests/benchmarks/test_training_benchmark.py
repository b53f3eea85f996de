"""The benchmark of training: equal work on both sides, and its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.training import clip_rates
from benchmarks.training.__main__ import main
from benchmarks.training.made_videos import write_frames
from benchmarks.training.original_clips import decoded_files, original_batch, original_clip
from preprocess.datasets.sample_list import list_samples
from preprocess.tensors.training_clips import Randomness, make_training_clip
from train.clips.clip_loader import ListedClips
from train.learning.network_input import Normalisation
from vidom.formats.recipe import load_recipe


def test_both_sides_make_the_same_clips(tmp_path: Path) -> None:
    sizes = "views.short_side=128", "views.crop_size=112", "train.crop_size=112"
    augmentation = "train.augmentation={crop: {type: multi_scale}, flip: 0.5}"
    recipe = load_recipe("tsm_ucf101", (*sizes, augmentation))
    section, plan = recipe.training
    path = write_frames(tmp_path, count=1, frames=9)
    clips = ListedClips(recipe, list_samples(path, data_root=tmp_path, recipe=recipe), tmp_path, 0)
    (annotation,) = clips.annotations
    mirrored = set()
    for sample in range(8):
        random = Randomness.of(sample)
        clip = make_training_clip(clips.source(annotation), plan, section, random)
        images = decoded_files([tmp_path / "0000" / f"img_{frame:05}.jpg" for frame in clip.frames])
        original = original_batch([original_clip(images, plan, clip)])
        ours = Normalisation(plan)(torch.from_numpy(clip.pixels)[None])
        # mmcv multiplies by 1 / std, which vidom's truths fix as a division.
        torch.testing.assert_close(ours, original, rtol=0, atol=1e-6)
        mirrored.add(clip.mirrored)
    assert mirrored == {True, False}


@pytest.mark.slow
def test_the_report_has_each_source_and_says_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clip_rates, "_BATCHES", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code = main(["--parts", "device", "clips", "--rounds", "1", "--output_dir", str(tmp_path)])
    assert capsys.readouterr().out == (tmp_path / "training.md").read_text()
    document = json.loads((tmp_path / "training.json").read_text())
    (table,) = document["tables"]
    assert [row[0] for row in table["rows"]] == ["JPEG files", "H.264 videos"]
    for _, ours, original, ratio, _ in table["rows"]:
        assert ratio == pytest.approx(ours / original)
    (target,) = document["targets"]
    assert target["measured"] == pytest.approx(table["rows"][0][3])
    assert code == (0 if target["measured"] >= 2 else 1)
    assert "no NVIDIA GPU" in document["conditions"]["GPU"]
