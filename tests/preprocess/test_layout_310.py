"""MindSpore's 310 flow from packs to the line of acc.log, each number compared with torch on the same tensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from packing import packed_by_one

from export.to_onnx import ToOnnxOptions, to_onnx
from infer.inference import InferOptions, infer
from networks.deployable import build_deployable
from postprocess.score import main as score
from preprocess.layout_310 import Layout310Options, lay_out
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import Recipe, load_recipe

RECIPE = """
name: tiny_stnet
summary: StNet small enough for tests
network: {arch: stnet, base_channels: 8, pool_size: 2}
checkpoint: {framework: mindspore, file: none.ckpt}
dataset: {name: tiny, num_classes: 5, labels: LABELS}
views:
  pipeline: mindspore
  num_segments: 3
  clip_len: 2
  short_side: 80
  crop: center
  crop_size: 64
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  layout: stacked
head: {softmax: false, average_clips: score}
"""
CLIPS = {"land_427x240": 3, "port_240x427": 1, "big_640x361": 4}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\n")
    path = tmp_path / "tiny_stnet.yaml"
    path.write_text(RECIPE.replace("LABELS", str(labels)))
    return load_recipe(str(path))


@pytest.fixture
def packs(tmp_path: Path, fixtures: Path) -> Path:
    """The folder of a list `val.json` and of the packs in `val/` that it names, as video2pkl.py writes them."""
    (tmp_path / "val").mkdir()
    for name, label in CLIPS.items():
        frames = [path.read_bytes() for path in sorted((fixtures / "synth" / name).glob("*.jpg"))]
        (tmp_path / "val" / f"{name}.pkl").write_bytes(pickle.dumps((f"./{name}", label, frames), protocol=2))
    (tmp_path / "val.json").write_text(json.dumps([{"video_name": f"{name}.mp4"} for name in CLIPS]))
    return tmp_path


def packed(recipe: Recipe, packs: Path, **options: object) -> ClipStore:
    return packed_by_one(
        recipe=recipe, data_root=packs, ann_file=packs / "val.json", output_dir=packs / "store", **options
    )


@pytest.mark.slow
def test_the_310_flow_gives_the_accuracy_of_torch(
    recipe: Recipe, packs: Path, capsys: pytest.CaptureFixture[str]
):
    store = packed(recipe, packs)
    assert {sample.id: sample.label for sample in store.samples.values()} == CLIPS
    flow = lay_out(Layout310Options(store=store.folder, output_dir=packs / "preprocess_Result"))
    assert sorted(path.name for path in (flow / "data").iterdir()) == [
        f"stnet_data_bs1_{i}.bin" for i in range(3)
    ]
    labels = np.load(flow / "label_ids.npy")
    assert labels.dtype == np.int32 and labels.tolist() == [[label] for label in CLIPS.values()]

    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=packs / "m.onnx"))
    infer(
        InferOptions(model=model, input=str(flow / "data"), output=packs / "out", output_dirname="r"),
        say=lambda _: None,
    )
    words = ["--result_path", str(packs / "out" / "r"), "--info_path", str(flow / "label_ids.npy")]
    score([*words, "--num_classes", "5"])

    tensors = np.concatenate([store.read(clip_file) for clip_file in store.files])
    deployable, _ = build_deployable(recipe, "seeded:0")
    with torch.no_grad():
        best = deployable(torch.from_numpy(tensors)).argmax(1).numpy()
    correct = int((best == labels[:, 0]).sum())
    percent = f"{int(correct / 3 * 10000) / 100:.2f}"
    line = f"after allreduce eval: top1_correct={correct}, tot=3, acc={percent}%"
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert (packs / "out" / "acc.log").read_text().splitlines()[-1] == line


def test_stores_that_the_guide_does_not_support_are_rejected(recipe: Recipe, packs: Path):
    store = packed(recipe, packs, dtype="uint8")
    with pytest.raises(UsageError, match="one float32 sample"):
        lay_out(Layout310Options(store=store.folder, output_dir=packs / "flow"))


def test_a_list_without_its_packs_is_rejected(recipe: Recipe, packs: Path):
    (packs / "val" / "big_640x361.pkl").unlink()
    with pytest.raises(BadDataError, match=r"big_640x361\.pkl"):
        packed(recipe, packs)
