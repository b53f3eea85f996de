"""Training steps against those of mmaction2's own optimizer, hooks and schedule, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from train_sections import section

from networks.loading import build_network
from networks.seeded import seeded_state_dict
from train.clips.clip_loader import Batch
from train.learning.parameter_groups import build_optimizer
from train.learning.schedules import rate_factor
from train.learning.steps import Trainer
from train.outputs.run_checkpoint import Progress, load_run, save_run
from vidom.formats.recipe import load_recipe

COMMITTED = Path(__file__).parents[1] / "fixtures" / "training" / "mmaction2"
SHARED = Path(__file__).parents[3] / "shared" / "fixtures" / "training" / "mmaction2"
RECIPES = {"ucf101": "tsm_ucf101", "sthv2": "tsm_sthv2", "i3d": "i3d_k400"}
CASES = sorted(
    {path.name: path for folder in (SHARED, COMMITTED) for path in folder.glob("train_*.npz")}.values()
)
# Relative to the largest value of a tensor's kind; the originals ran in float64.
EXACT = 1e-9


def samples_of(tensors: dict[str, torch.Tensor], names: np.ndarray) -> np.ndarray:
    """Return the fixtures' samples: at most 32 values of each tensor, evenly spaced."""
    flat = [tensors[str(name)].detach().numpy().ravel() for name in names]
    picked = [
        values[np.linspace(0, values.size - 1, min(values.size, 32)).astype(np.int64)] for values in flat
    ]
    return np.concatenate(picked).astype(np.float64)


def trainer_of(meta: dict[str, Any]) -> Trainer:
    recipe, case = load_recipe(RECIPES[meta["case"]["cfg"]]), meta["case"]
    clip = meta["grad_clip"]
    settings = section(
        lr=meta["optimizer"]["lr"],
        optimizer={
            "type": "sgd",
            "momentum": meta["optimizer"]["momentum"],
            "weight_decay": meta["optimizer"]["weight_decay"],
            "groups": "tsm" if "constructor" in meta["optimizer"] else "single",
        },
        schedule={"type": "step", "milestones": meta["lr_config"]["step"]},
        clip_norm=clip and clip["max_norm"],
        epochs=100,
    )
    dropout = 0.5 if case.get("dropout") else 0.0
    network = build_network(recipe.network.arch, {**recipe.network_arguments, "dropout": dropout})
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    network.load_state_dict(seeded_state_dict(shapes, seed=0))
    network.double()
    trainer = Trainer(
        Accelerator(cpu=True),
        network,
        build_optimizer(network, settings, lr=settings.lr),
        nn.Identity(),
        settings,
        0,
    )
    trainer.train_mode()
    return trainer


def compared_step(trainer: Trainer, step: int, truth: Any, meta: dict[str, Any]) -> None:
    """Take a step, and compare what it returns and leaves with the original's."""
    case = meta["case"]
    factor = rate_factor(trainer.section, step, steps_per_epoch=case.get("per_epoch", case["iters"]))
    trainer.set_rate(factor)
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    np.testing.assert_allclose(rates, truth["lr"][step], rtol=1e-15)
    clip = np.random.default_rng(case["seed"] + step).standard_normal(case["shape"]).astype(np.float32)
    labels = torch.tensor(meta["labels"][step])
    batch = Batch(torch.from_numpy(clip).double(), labels, tuple(range(len(labels))), ())
    result = trainer.step(batch, step)
    np.testing.assert_allclose(result.loss, truth["loss"][step], rtol=EXACT)
    if meta["grad_clip"]:
        np.testing.assert_allclose(result.grad_norm, truth["grad_norm"][step], rtol=EXACT)
    for kind, tensors in (
        ("param", dict(trainer.network.named_parameters())),
        ("buffer", dict(trainer.network.named_buffers())),
    ):
        found = samples_of(tensors, truth[f"{kind}_names"])
        expected = truth[f"step{step + 1}/{kind}s"]
        assert np.abs(found - expected).max() <= EXACT * np.abs(expected).max()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_three_steps_are_the_original_s(path: Path, monkeypatch: pytest.MonkeyPatch):
    truth = np.load(path)
    meta = json.loads(str(truth["meta_json"]))
    trainer = trainer_of(meta)
    monkeypatch.setattr(Trainer, "_seed", lambda self, number: None)
    torch.manual_seed(meta["case"].get("torch_seed", 0))
    for step in range(meta["case"]["iters"]):
        compared_step(trainer, step, truth, meta)


def test_the_third_step_from_a_checkpoint_of_the_second_is_the_original_s(tmp_path: Path):
    truth = np.load(COMMITTED / "train_tsm_sthv2_steps.npz")
    meta = json.loads(str(truth["meta_json"]))
    trainer = trainer_of(meta)
    for step in range(2):
        compared_step(trainer, step, truth, meta)
    identity = {"seed": 0}
    save_run(
        tmp_path / "last.pth",
        trainer.network,
        trainer.optimizer,
        Progress(2),
        identity=identity,
        epoch=2,
        config="",
    )
    # The network of the first step; all that the second has left comes from the file.
    continued = trainer_of(meta)
    progress, _ = load_run(tmp_path / "last.pth", continued.network, continued.optimizer, identity=identity)
    assert progress == Progress(2)
    compared_step(continued, 2, truth, meta)
