"""Whole small runs: continued after a kill, on several processes, refused, interrupted, broken."""

from __future__ import annotations

import json
import os
import pickletools
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from small_runs import FRAMES, SETTINGS, command, train_here, words, write_list

from infer.engines.engine_options import TorchOptions
from infer.evaluate import EvaluateOptions, evaluate
from networks.checkpoints.torch_weights import read_torch
from train.outputs.run_log import LOG_NAME, TIMES
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    done = command(*words(write_list(folder / "list.txt"), folder / "run"))
    assert done.returncode == 0, done.stderr
    return folder


def log_without_times(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / LOG_NAME).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def test_a_run_leaves_what_it_promises(whole: Path):
    run = whole / "run"
    names = {path.name for path in run.iterdir()}
    assert {"last.pth", "best.pth", "log.jsonl", "train.json", "curves.png"} <= names
    assert ".lock" not in names
    lines = [json.loads(line) for line in (run / LOG_NAME).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(12))
    assert [line["clips"] for line in steps] == [2, 2, 2, 1] * 3
    assert [line["epoch"] for line in lines if "top1" in line] == [0, 1, 2]
    assert all(line["n"] == 7 for line in lines if "top1" in line)
    report = json.loads((run / "train.json").read_text())
    assert report["reached"]["step"] == 12
    assert report["published"][0]["top1"] == 0.9450


def test_the_best_checkpoint_evaluated_before_any_export_is_as_accurate_as_in_training(
    whole: Path, tmp_path: Path
):
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    same_frames = {"views.num_segments": "4", "dataset.labels": str(tmp_path / "names.txt")}
    recipe = load_recipe(
        "tsm_ucf101", [f"{key}={value}" for key, value in {**SETTINGS, **same_frames}.items()]
    )
    found = evaluate(
        EvaluateOptions(
            recipe=recipe,
            engine=TorchOptions(checkpoint=str(whole / "run" / "best.pth"), threads=torch.get_num_threads()),
            data_root=FRAMES,
            ann_file=whole / "list.txt",
            output_dir=tmp_path / "out",
            batch_size=2,
            workers=1,
        )
    )
    lines = [json.loads(line) for line in (whole / "run" / LOG_NAME).read_text().splitlines()]
    best = max(line["top1"] for line in lines if "top1" in line)
    assert (found.metrics.n, found.metrics.top1.value) == (7, best)


def test_tensorboard_reads_what_the_log_holds(whole: Path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: make extras"
    )
    events = accumulator.EventAccumulator(str(whole / "run" / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (whole / "run" / LOG_NAME).read_text().splitlines()]
    for name in ("loss", "rate", "grad_norm", "top1"):
        logged = [(line["step"], np.float32(line[name])) for line in lines if name in line]
        assert [(event.step, event.value) for event in events.Scalars(name)] == logged
    assert len(events.Scalars("loss")) == 12 and len(events.Scalars("top1")) == 3


@pytest.mark.parametrize("moment", [1, 2, 3, 5, 7, 9, 12, 15, 18, 21])
def test_a_run_killed_at_any_moment_continues_to_the_same_bytes(whole: Path, tmp_path: Path, moment: int):
    arguments = words(whole / "list.txt", tmp_path / "run")
    assert command(*arguments, killed_at=moment).returncode == -signal.SIGKILL
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    for name in ("last.pth", "best.pth"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / "run" / name).read_bytes()
    assert log_without_times(tmp_path / "run") == log_without_times(whole / "run")
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.slow
def test_a_compiled_network_is_saved_and_validated_as_the_network(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def with_eager_code(*, dynamo_backend: str, **arguments: Any) -> Accelerator:
        assert dynamo_backend == "inductor"
        return Accelerator(dynamo_backend="eager", **arguments)

    # The compiler's own code is a matter of torch, and takes minutes to make.
    monkeypatch.setattr("train.devices.Accelerator", with_eager_code)
    train_here(whole / "list.txt", tmp_path / "run", train__epochs="1", train__compile="true")
    states = [read_torch(folder / "run" / "best.pth").state_dict for folder in (tmp_path, whole)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    logs = [log_without_times(folder / "run") for folder in (tmp_path, whole)]
    assert logs[0] == logs[1][: len(logs[0])]


def test_an_interrupted_run_saves_the_step_in_progress(whole: Path, tmp_path: Path):
    arguments = words(whole / "list.txt", tmp_path / "run", train__epochs="400")
    process = subprocess.Popen([sys.executable, "-m", "train", *arguments], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / LOG_NAME
    while not log.exists() or log.read_text().count("\n") < 3:
        assert process.poll() is None
    process.terminate()
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    steps = sum("loss" in line for line in map(json.loads, log.read_text().splitlines()))
    meta = torch.load(tmp_path / "run" / "last.pth", weights_only=True)["meta"]
    assert meta["iter"] == steps


def test_several_processes_train_on_the_same_clips(whole: Path, tmp_path: Path):
    """With frozen batch statistics a step of two processes is that of one with the whole batch."""
    settings = {"train__batch_norm": "frozen", "train__dropout": "0", "train__clip_norm": "null"}
    one = command(*words(whole / "list.txt", tmp_path / "one", train__batch_size="4", **settings))
    two = command(*words(whole / "list.txt", tmp_path / "two", "--cards", "2", **settings))
    assert one.returncode == two.returncode == 0, two.stderr
    lines = [log_without_times(tmp_path / name) for name in ("one", "two")]
    for first, second in zip(*lines, strict=True):
        for key in ("loss", "grad_norm"):
            if key in first:
                assert second[key] == pytest.approx(first[key], rel=1e-5)
        assert {k: v for k, v in first.items() if k not in ("loss", "grad_norm")} == {
            k: v for k, v in second.items() if k not in ("loss", "grad_norm")
        }


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"train__lr": "0.5"}, "settings"),
        ({"dataset__num_classes": "4"}, "classes"),
        ({"network__shift_div": "4"}, "settings"),
    ],
)
def test_a_different_run_is_refused_and_nothing_is_changed(whole: Path, change: dict[str, str], word: str):
    before = {path: path.read_bytes() for path in (whole / "run").iterdir() if path.is_file()}
    done = command(*words(whole / "list.txt", whole / "run", **change))
    assert done.returncode == 4
    assert word in done.stderr and "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in (whole / "run").iterdir() if path.is_file()} == before


def test_a_different_list_is_refused(whole: Path, tmp_path: Path):
    done = command(*words(write_list(tmp_path / "list.txt", count=5), whole / "run"))
    assert done.returncode == 4
    assert "data_sha256" in done.stderr


def test_a_loss_that_is_not_finite_names_step_and_samples(whole: Path, tmp_path: Path):
    done = command(*words(whole / "list.txt", tmp_path / "run", train__lr="1e30"))
    assert done.returncode == 1
    assert "The loss of step" in done.message and "positions in the list" in done.message
    assert "Traceback" not in done.stderr


def test_scores_of_a_validation_that_are_not_finite_are_reported(whole: Path, tmp_path: Path):
    checkpoint = torch.load(whole / "run" / "last.pth", weights_only=True)
    for key, tensor in checkpoint["state_dict"].items():
        if key.endswith("running_var"):
            tensor.fill_(-1e6)
    torch.save(checkpoint, tmp_path / "negative.pth")
    arguments = ("--checkpoint", str(tmp_path / "negative.pth"))
    with pytest.raises(BadDataError, match="7 samples have a score that is NaN"):
        train_here(whole / "list.txt", tmp_path / "run", *arguments, train__epochs="1")


def test_a_broken_sample_stops_the_run_or_is_left_out_and_listed(whole: Path, tmp_path: Path):
    text = (whole / "list.txt").read_text().splitlines()
    broken = tmp_path / "list.txt"
    broken.write_text("\n".join(["absent 9 1", *text]) + "\n")
    arguments = words(broken, tmp_path / "run")
    stopped = command(*arguments)
    assert stopped.returncode == 4
    assert "absent" in stopped.message and "--on_bad skip" in stopped.message
    done = command(*arguments, "--on_bad", "skip")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_NAME).read_text().splitlines()]
    epochs = [
        sum(line["clips"] for line in lines if "loss" in line and line["epoch"] == epoch)
        for epoch in range(3)
    ]
    assert epochs == [7, 7, 7]
    assert all(line["n"] == 7 for line in lines if "top1" in line)
    assert list(json.loads((tmp_path / "run" / "train.json").read_text())["left_out"]) == [
        "sample 0 of the training list",
        "sample 0 of the validation list",
    ]


def test_the_checkpoint_has_the_layout_of_mmaction2_s_own(whole: Path):
    """Keys, groups and numbering are those of a file of mmcv's EpochBasedRunner; nothing in it is code."""
    path = whole / "run" / "last.pth"
    truth = json.loads(
        (Path(__file__).parents[1] / "fixtures/training/mmaction2/resume_and_checkpoint.json").read_text()
    )
    content = torch.load(path, weights_only=True)
    assert list(content) == ["meta", "state_dict", "optimizer"]
    assert {"epoch", "iter", "seed", "config"} <= content["meta"].keys()
    assert content["meta"]["epoch"] == 3 and content["meta"]["iter"] == 12
    assert list(content["optimizer"]) == truth["optimizer_keys"]
    groups = content["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [group["lr"] for group in truth["param_groups"]]
    # Torch's own name for what mmcv leaves out: which parameter each number is.
    names = [name for group in groups for name in group.pop("param_names")]
    assert [set(group) for group in groups] == [set(group) for group in truth["param_groups"]]
    numbers = [number for group in groups for number in group["params"]]
    assert numbers == list(range(len(numbers)))
    state = content["optimizer"]["state"]
    assert {key for entry in state.values() for key in entry} == {"momentum_buffer"}
    assert [state[number]["momentum_buffer"].shape for number in numbers] == [
        content["state_dict"][name].shape for name in names
    ]
    assert set(read_torch(path).state_dict) == set(content["state_dict"])
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        opcodes = list(pickletools.genops(archive.read(name)))
    modules = {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"}
    assert {module.partition(" ")[0].partition(".")[0] for module in modules} <= {"torch", "collections"}


def test_weights_of_another_class_count_are_taken_but_for_the_classifier(whole: Path, tmp_path: Path):
    done = command(
        *words(
            whole / "list.txt",
            tmp_path / "run",
            "--checkpoint",
            str(whole / "run" / "best.pth"),
            dataset__num_classes="5",
            train__lr="1e-12",
            train__epochs="1",
        )
    )
    assert done.returncode == 0, done.stderr
    assert "cls_head.fc_cls.weight" in done.stderr
    first = read_torch(whole / "run" / "best.pth").state_dict
    second = read_torch(tmp_path / "run" / "last.pth").state_dict
    for key, tensor in first.items():
        if key.startswith("backbone.") and "bn.running" not in key and "num_batches" not in key:
            np.testing.assert_allclose(second[key], tensor, atol=1e-6)
    assert second["cls_head.fc_cls.weight"].shape[0] == 5


def test_a_performance_run_ends_after_its_steps_without_validation(whole: Path, tmp_path: Path):
    done = command(*words(whole / "list.txt", tmp_path / "run", "--steps", "8"))
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in log_without_times(tmp_path / "run")] == list(range(8))
    header, row = done.stdout.splitlines()
    assert header.split() == ["Name", "Acc", "FPS", "Epochs", "AMP", "Torch"]
    assert row.split()[0] == "tsm_ucf101"
    assert float(row.split()[4]) > 0


def test_a_folder_in_which_another_process_trains_is_left_alone(whole: Path, tmp_path: Path):
    arguments = words(whole / "list.txt", tmp_path / "run", train__epochs="1000")
    first = subprocess.Popen([sys.executable, "-m", "train", *arguments], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / LOG_NAME).exists():
            assert first.poll() is None
        second = command(*arguments)
        assert second.returncode == 3
        assert str(first.pid) in second.stderr
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
