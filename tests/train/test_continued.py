"""Runs in this process that end early and continue: in mixed precision, on a full disk, with nothing to continue."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from small_runs import train_here, write_list

from train import training
from train.devices import accelerator_of
from train.outputs.run_log import LOG_NAME
from vidom.errors import BadDataError
from vidom.formats.recipe_parts.train_section import TrainSection


@pytest.fixture(scope="module")
def ann_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_list(tmp_path_factory.mktemp("list") / "list.txt")


def fp16_on_a_cpu(section: TrainSection, precision: str) -> Accelerator:
    """What Accelerate makes on a card: autocast to float16, and a scaler, which overflows at first."""
    accelerator = accelerator_of(section, "bf16")
    accelerator.state._mixed_precision = precision
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)
    return accelerator


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_mixed_precision_a_run_continues_to_the_same_bytes(
    precision: str, ann_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if precision == "fp16":
        monkeypatch.setattr(training, "accelerator_of", fp16_on_a_cpu)
    for out, steps in (("whole", 8), ("parts", 3), ("parts", 8)):
        outcome = train_here(ann_file, tmp_path / out, "--precision", precision, "--steps", str(steps))
        assert (outcome.precision, outcome.progress.step) == (precision, steps)
    whole, parts = (tmp_path / out / "last.pth" for out in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "parts" / LOG_NAME).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    scaler = torch.load(whole, weights_only=True)["meta"]["vidom"]["scaler"]
    if precision == "bf16":
        assert scaler == {}
        return
    # Halved at each overflow, which leaves the step out and has no gradient norm; doubled after two good steps.
    overflows = sum(line["grad_norm"] is None for line in lines)
    assert overflows > 0
    assert scaler["scale"] == 2.0 ** (40 - overflows + (8 - overflows) // 2)
    assert scaler["_growth_tracker"] == (8 - overflows) % 2


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the system refuse to let a file of this process grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_checkpoint_for_which_there_is_no_space_leaves_the_previous_one(ann_file: Path, tmp_path: Path):
    run = tmp_path / "run"
    wide = {"network__base_channels": "16"}
    train_here(ann_file, run, "--steps", "1", **wide)
    before = (run / "last.pth").read_bytes()
    # The largest tensors are written in one piece, so that torch has nothing left to write when it fails.
    with file_size_limit(400_000), pytest.raises(OSError, match="File too large"):
        train_here(ann_file, run, "--steps", "2", **wide)
    assert (run / "last.pth").read_bytes() == before
    assert not list(run.glob("*.part"))
    assert train_here(ann_file, run, "--steps", "2", **wide).progress.step == 2


def test_resume_begins_nothing_anew(ann_file: Path, tmp_path: Path):
    with pytest.raises(BadDataError, match=r"no .*last\.pth to continue.*--resume"):
        train_here(ann_file, tmp_path / "run", "--resume")
    assert not (tmp_path / "run" / LOG_NAME).exists()
