"""Whole small runs of StNet on packs and on a video."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Done, command
from written_clips import written

from export.build import main as build
from infer.evaluate import main as evaluate
from networks.loading import load_network
from preprocess.datasets.sample_list import list_samples
from preprocess.sources.frame_pack import read_pack_label
from train.clips.clip_loader import ClipSource, ListedClips
from train.clips.epochs import ClipKey
from train.outputs.run_log import LOG_NAME, TIMES
from train.validation import CentreClips
from vidom.formats.recipe import Recipe, load_recipe

FIXTURES = Path(__file__).parents[1] / "fixtures"
PACKS = sorted((FIXTURES / "mindspore").glob("*.pkl"))
SETTINGS = {
    "network.base_channels": 4,
    "network.pool_size": 2,
    "views.num_segments": 3,
    "views.short_side": 72,
    "views.crop_size": 64,
    "train.epochs": 4,
    "train.batch_size": 2,
    "train.segments": 3,
    "train.crop_size": 64,
    "train.validate_every": 2,
}


def sets(**changes: Any) -> list[str]:
    settings = SETTINGS | {f"train.{key}": value for key, value in changes.items()}
    return [f"{key}={value}" for key, value in settings.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the original reads it: train.json and val.json, and the packs in train and val."""
    folder = tmp_path_factory.mktemp("packs")
    for split, packs in (("train", PACKS), ("val", PACKS[:1])):
        (folder / split).mkdir()
        for pack in packs:
            shutil.copy(pack, folder / split)
        (folder / f"{split}.json").write_text(
            json.dumps([{"video_name": f"{pack.stem}.mp4"} for pack in packs])
        )
    return folder


def words(data: Path, out: Path, *more: str, **changes: Any) -> list[str]:
    return [
        *("--recipe", "stnet_k400", *(word for text in sets(**changes) for word in ("--set", text))),
        *(
            "--data_root",
            str(data),
            "--ann_file",
            str(data / "train.json"),
            "--val_ann",
            str(data / "val.json"),
        ),
        *("--output_dir", str(out), "--workers", "0", *more),
    ]


def trained(data: Path, out: Path, *more: str, **changes: Any) -> tuple[Done, list[dict[str, Any]]]:
    done = command(*words(data, out, *more, **changes))
    assert done.returncode == 0, done.stderr
    return done, [json.loads(line) for line in (out / LOG_NAME).read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    trained(data, out)
    return out


def test_the_loss_of_packs_falls_at_the_schedule_s_rates(data: Path, tmp_path: Path):
    schedule = "{type: step, milestones: [6, 8]}"
    _, lines = trained(data, tmp_path / "run", epochs=10, validate_every=10, schedule=schedule)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-4:]) < 0.3 * losses[0]
    rates = [line["rate"] for line in lines if "loss" in line]
    assert rates == pytest.approx([0.01] * 6 + [0.001] * 2 + [0.0001] * 2)


def test_a_killed_run_continues_to_the_same_bytes(data: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert command(*words(data, out), killed_at=5).returncode == -signal.SIGKILL
    trained(data, out)
    for name in ("last.pth", "best.pth"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    logs = [
        [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in (folder / LOG_NAME).read_text().splitlines()
        ]
        for folder in (out, whole)
    ]
    assert logs[0] == logs[1]


def test_the_result_is_loaded_as_the_recipe_s_network(whole: Path):
    network, _ = load_network(load_recipe("stnet_k400", sets()), str(whole / "last.pth"))
    stored = torch.load(whole / "last.pth", weights_only=True)["state_dict"]
    state = network.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(tensor, stored[key]) for key, tensor in state.items())


def test_the_result_is_exported_and_evaluated_with_the_guide_s_lines(
    data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = ["--recipe", "stnet_k400", *(word for text in sets() for word in ("--set", text))]
    model = tmp_path / "optimized.onnx"
    files = [
        "--exported",
        str(tmp_path / "exported.onnx"),
        "--optimized",
        str(model),
        "--om",
        str(tmp_path / "m.om"),
    ]
    build([*recipe, "--checkpoint", str(whole / "last.pth"), "--target", "cpu", *files])
    lists = ["--data_root", str(data), "--ann_file", str(data / "val.json"), "--workers", "1"]
    capsys.readouterr()
    evaluate(
        [*recipe, *lists, "--engine", "onnxruntime", "--model", str(model), "--output_dir", str(tmp_path)]
    )
    last = [json.loads(line) for line in (whole / LOG_NAME).read_text().splitlines()][-1]
    correct, printed = round(last["top1"] * last["n"]), capsys.readouterr().out.splitlines()
    assert f"accuracy:{{'acc':{last['top1']}}}" in printed
    percent = f"{100 * last['top1']:.2f}"
    assert f"after allreduce eval: top1_correct={correct}, tot={last['n']}, acc={percent}%" in printed


def test_the_validation_list_is_validated_unless_the_original_s_slip_is_chosen(
    data: Path, whole: Path, tmp_path: Path
):
    lines = [json.loads(line) for line in (whole / LOG_NAME).read_text().splitlines()]
    assert [line["n"] for line in lines if "top1" in line] == [1, 1]
    done, lines = trained(data, tmp_path / "run", epochs=1, validation="training_clips")
    assert [line["n"] for line in lines if "top1" in line] == [len(PACKS)]
    assert "random clips of the training list" in " ".join(done.stderr.split())


def small() -> Recipe:
    return load_recipe("stnet_k400", sets())


def pixels(clips: ClipSource, key: ClipKey) -> np.ndarray:
    return written(clips, key, small().training[1].images_shape)[0]


def test_clips_of_packs_depend_on_seed_epoch_and_sample_only(data: Path):
    samples = list_samples(data / "train.json", data_root=data, recipe=small())
    assert [sample.label for sample in samples] == [read_pack_label(pack) for pack in PACKS]
    clips = ListedClips(small(), samples, data, 0)
    first = pixels(clips, (3, 1))
    pixels(clips, (1, 0))
    assert np.array_equal(pixels(clips, (3, 1)), first)
    others = [pixels(clips, (4, 1)), pixels(ListedClips(small(), samples, data, 1), (3, 1))]
    assert not any(np.array_equal(other, first) for other in others)
    centre = CentreClips(small(), samples, data)
    assert np.array_equal(pixels(centre, (0, 1)), pixels(centre, (1, 1)))


def test_a_video_is_a_source_as_a_pack_is(tmp_path: Path):
    video = next(path for path in sorted((FIXTURES / "videos").rglob("*")) if path.suffix in (".mp4", ".avi"))
    (tmp_path / "list.txt").write_text(f"{video.name} 3\n")
    samples = list_samples(tmp_path / "list.txt", data_root=video.parent, recipe=small())
    shape = (15, 64, 64, 3)
    clip, label = written(ListedClips(small(), samples, video.parent, 0), (0, 0), shape)
    assert (small().training[1].images_shape, label) == (shape, 3)
    assert all(frame.std() > 1 for frame in clip)
