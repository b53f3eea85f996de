"""A short training of PP-TSM: it ends where no gradient waits, continues to the same bytes, and can be exported."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from small_runs import train_here, write_list

from networks.loading import load_network
from train.learning.steps import StepResult, Trainer
from train.outputs.run_log import LOG_NAME

SETTINGS = {
    "recipe": "pptsm_ucf101_66_dense",
    "network__depth": "50",
    "train__segments": "8",
    "train__augmentation__crop__resize_to": "48",
    "train__epochs": "3",
    "train__lr": "0.01",
    "train__warmup__epochs": "1",
    "train__mixup": "0",
    "train__accumulate": "3",
    "train__precise_batch_norm__every": "2",
    "train__precise_batch_norm__batches": "3",
}


def test_an_interrupted_run_waits_for_the_update_and_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ann_file = write_list(tmp_path / "list.txt")
    outcome = train_here(ann_file, tmp_path / "whole", **SETTINGS)
    step = Trainer.step

    def interrupted(self: Trainer, batch: object, number: int, **options: bool) -> StepResult:
        if number == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, number, **options)  # type: ignore[arg-type]

    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_here(ann_file, parts, **SETTINGS)
    # An epoch has four steps; of the second, three make an update and the last one another.
    assert torch.load(parts / "last.pth", weights_only=True)["meta"]["iter"] == 7
    train_here(ann_file, parts, **SETTINGS)
    whole = tmp_path / "whole" / "last.pth"
    assert whole.read_bytes() == (parts / "last.pth").read_bytes()

    lines = [json.loads(line) for line in (parts / LOG_NAME).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(12))
    assert [line["grad_norm"] is not None for line in steps] == [False, False, True, True] * 3

    network, _ = load_network(outcome.recipe, str(whole))
    state = torch.load(whole, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
