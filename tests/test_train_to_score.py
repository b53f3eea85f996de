"""The lines of the README from the downloads to the score, executed as they stand in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_videos import write_video

from networks.loading import build_network
from vidom.formats.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
# What makes the network, the videos and the training small.
SMALL = {
    "network.depth": "10",
    "network.base_channels": "8",
    "views.short_side": "48",
    "views.crop_size": "40",
    "train.crop_size": "40",
    "train.epochs": "2",
    "train.batch_size": "3",
}


def write_downloads(folder: Path) -> None:
    """Write UCF101's lists, all 101 classes of them, with three videos for training and three for validation."""
    names = load_recipe("tsm_ucf101").labels()
    annotations = folder / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    for split, group in (("train", "g08"), ("test", "g01")):
        videos = [f"{name}/v_{name}_{group}_c01.avi" for name in names[:3]]
        for number, video in enumerate(videos):
            write_video(folder / "videos" / video, frames=10, size=(64, 48), seed=number)
        lines = [f"{video} {number}" if split == "train" else video for number, video in enumerate(videos, 1)]
        (annotations / f"{split}list01.txt").write_text("\n".join(lines) + "\n")


def checkout_with_this_environment(folder: Path) -> None:
    """Make `folder` one in which `make` works, with nothing to install."""
    locks = ROOT.glob("requirements*.lock")
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *locks):
        (folder / path.name).symlink_to(path)
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix, name))
    for stamp in (".ready", ".extras"):
        (folder / ".venv" / stamp).touch()


@pytest.mark.slow
def test_the_lines_lead_from_the_downloads_to_the_score(tmp_path: Path):
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    (block,) = (block for block in blocks if "make data" in block)
    write_downloads(tmp_path / "downloads" / "ucf101")
    pretrained = re.search(r"CKPT=(\S+kinetics400\S+\.pth)", block)
    assert pretrained
    recipe = load_recipe(
        "tsm_k400", [f"{name}={SMALL[name]}" for name in SMALL if name.startswith("network")]
    )
    network = build_network(recipe.network.arch, recipe.network_arguments)
    torch.save({"state_dict": network.state_dict()}, tmp_path / pretrained[1])
    checkout_with_this_environment(tmp_path)
    done = subprocess.run(
        ["bash", "-ec", block],
        cwd=tmp_path,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "SET": " ".join(f"{name}={value}" for name, value in SMALL.items()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cls_head.fc_cls.weight" in done.stderr  # Kinetics has other classes
    run = tmp_path / "run" / "tsm_ucf101"
    metrics = (run / "evaluation" / "metrics.json").read_bytes()
    assert metrics == (run / "result" / "bs8_metrics.json").read_bytes()
    reached = json.loads((run / "training" / "train.json").read_text())["reached"]
    before = (tmp_path / "run" / "before_export" / "evaluation" / "metrics.json").read_bytes()
    for found in (before, metrics):
        assert json.loads(found)["top1"]["accuracy"] == reached["best_top1"]
