"""Training steps of StNet against those of MindSpore's own optimizer, loss and batch normalisation, in float32.

The original ran three steps of `nn.Momentum` in MindSpore 2.7 on a CPU, at full width and with eight channels. Most of
its ReLUs are open (offsets of 2 and 4), so that rounding is not amplified; the decay is 0.1, since float32 does not
show 1e-4.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from stnet_truths import calm_gain, fill
from torch import nn
from train_sections import section

from networks.checkpoints.mindspore_weights import mindspore_key
from networks.stnet import StNet
from train.clips.clip_loader import Batch
from train.learning.parameter_groups import build_optimizer
from train.learning.steps import Trainer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "mindspore"
FULL, NARROW = (
    FIXTURES / f"stnet_{name}_lr1e-4_wd0.1_3steps.npz" for name in ("A_112px_b4", "narrow_32px_b8")
)
LIMITS = {"loss": 1e-4, "parameter": 1e-6, "mean": 2e-5, "variance": 5e-5}
STATISTICS = {"moving_mean": "mean", "moving_variance": "variance"}
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


class Case:
    """A run of the original, and the same run here."""

    def __init__(self, path: Path, **optimizer: Any) -> None:
        self.truth = np.load(path)
        self.info: dict[str, Any] = json.loads(str(self.truth["info_json"]))
        self.names: list[str] = self.info["names"]
        self.trainer = trainer_of(self.info, optimizer)

    def clips(self, seed: int) -> torch.Tensor:
        """Return noise with a contrast for each segment and an offset for each plane."""
        plan = self.trainer.network
        lead, size = (self.info["batch"], *plan.lead), self.info["px"]
        noise = np.random.default_rng(seed).standard_normal((*lead, size, size))
        random = np.random.default_rng(seed + 1000)
        contrast = random.uniform(0.25, 2, (*lead[:2], 1, 1, 1))
        clips = contrast * noise + random.standard_normal((*lead, 1, 1))
        return torch.from_numpy(clips.astype(np.float32))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the tensors under MindSpore's names."""
        state = self.trainer.network.state_dict()
        return {name: state[mindspore_key(name)].numpy() for name in self.names}

    def excess(self, *, steps: int) -> dict[str, float]:
        """Return, by kind, the largest difference in the first steps as a part of its limit."""
        found = dict.fromkeys(LIMITS, 0.0)
        for step in range(steps):
            labels = torch.tensor(self.info["labels"][step])
            batch = Batch(self.clips(self.info["input_seeds"][step]), labels, tuple(range(len(labels))), ())
            loss = self.trainer.step(batch, step).loss
            differences = [("loss", abs(loss - self.info["losses"][step]))]
            truth = self.truth[f"step{step + 1}/values"].astype(np.float64)
            for (name, tensor), expected in zip(self.tensors().items(), truth, strict=True):
                count = min(tensor.size, len(expected))
                values = tensor.ravel()[np.linspace(0, tensor.size - 1, count).astype(int)]
                kind = STATISTICS.get(name.rpartition(".")[2], "parameter")
                scale = np.abs(expected).max() if kind == "variance" else 1
                differences.append((kind, float(np.abs(values - expected[:count]).max() / scale)))
            for kind, difference in differences:
                found[kind] = max(found[kind], difference / LIMITS[kind])
        return found


def initial(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the initial tensor of MindSpore's parameter `name`."""
    values = fill(name, shape) * np.float32(calm_gain(name))
    opened = 2 if name.endswith(".beta") else 4 if re.fullmatch(r"temp\d\.conv1\.bias", name) else 0
    return values + np.float32(opened)


def trainer_of(info: dict[str, Any], optimizer: dict[str, Any]) -> Trainer:
    settings = section(
        lr=info["lr"],
        optimizer={
            "type": "sgd",
            "momentum": info["momentum"],
            "weight_decay": info["weight_decay"],
            "groups": "no_decay_norm",
            **optimizer,
        },
    )
    with torch.device("meta"):
        network = StNet(
            num_classes=info["classes"],
            num_segments=info.get("segments", 7),
            frames_per_segment=info.get("frames", 5),
            pool_size=info["op_avg"],
            base_channels=info.get("base", 64),
        )
    state = network.state_dict()
    counters = {key: torch.tensor(0) for key in state if key.endswith("num_batches_tracked")}
    shapes = {name: tuple(state[mindspore_key(name)].shape) for name in info["names"]}
    filled = {mindspore_key(name): torch.from_numpy(initial(name, shape)) for name, shape in shapes.items()}
    network.load_state_dict(counters | filled, assign=True)
    network.requires_grad_(True)
    built = build_optimizer(network, settings, lr=settings.lr)
    trainer = Trainer(Accelerator(cpu=True), network, built, nn.Identity(), settings, 0)
    trainer.train_mode()
    return trainer


@pytest.mark.parametrize("path", [NARROW, pytest.param(FULL, marks=pytest.mark.slow)], ids=["narrow", "full"])
def test_three_steps_are_the_original_s(path: Path):
    case = Case(path)
    seeds = case.info["input_seeds"]
    assert [zlib.crc32(case.clips(seed).numpy().tobytes()) for seed in seeds] == case.info["input_crc32"]
    assert [zlib.crc32(tensor.tobytes()) for tensor in case.tensors().values()] == list(
        case.truth["init/crc32"]
    )
    found = case.excess(steps=3)
    assert max(found.values()) <= 1, found
    with torch.inference_mode():
        logits = case.trainer.network.eval()(case.clips(case.info["eval_input_seed"])).numpy()
    np.testing.assert_allclose(logits, case.truth["logits_eval_after_3_steps"], rtol=0, atol=5e-3)


def biased(trainer: Trainer) -> None:
    """Have the running variance take the biased batch variance, as Paddle's does."""
    for norm in (module for module in trainer.network.modules() if isinstance(module, NORMS)):
        norm.register_forward_pre_hook(
            lambda module, _: setattr(module, "before", module.running_var.clone())
        )
        norm.register_forward_hook(_update)


def _update(module: Any, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
    if module.training:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        variance = inputs[0].detach().var(axes, correction=0)
        # Autograd has saved the buffer, and may not see this.
        module.running_var.data.copy_((1 - module.momentum) * module.before + module.momentum * variance)


def dampened(trainer: Trainer) -> None:
    for group in trainer.optimizer.param_groups:
        group["dampening"] = 0.9


def mindspore_s_momentum(trainer: Trainer) -> None:
    for norm in (module for module in trainer.network.modules() if isinstance(module, NORMS)):
        norm.momentum = 0.9


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        pytest.param({"groups": "single"}, "parameter", id="decay of gamma and beta"),
        pytest.param({"groups": "no_decay_1d"}, "parameter", id="no decay of biases"),
        pytest.param({"weight_decay": 0}, "parameter", id="no decay"),
        pytest.param({"nesterov": True}, "parameter", id="nesterov"),
        pytest.param({"momentum": 0.5}, "parameter", id="momentum 0.5"),
    ],
)
def test_other_optimizers_are_noticed(optimizer: dict[str, Any], kind: str):
    assert Case(NARROW, **optimizer).excess(steps=2)[kind] > 10


@pytest.mark.parametrize(
    ("change", "kind"),
    [(dampened, "parameter"), (biased, "variance"), (mindspore_s_momentum, "variance")],
)
def test_other_conventions_are_noticed(change: Callable[[Trainer], None], kind: str):
    case = Case(NARROW)
    change(case.trainer)
    assert case.excess(steps=2)[kind] > 10


def test_the_tensors_that_decay_are_those_of_mindspore_s_own_flags():
    case = Case(NARROW)
    names = {id(parameter): name for name, parameter in case.trainer.network.named_parameters()}
    groups = case.trainer.optimizer.param_groups
    decaying, others = ([names[id(parameter)] for parameter in group["params"]] for group in groups)
    assert [group["weight_decay"] for group in groups] == [case.info["weight_decay"], 0]
    assert set(decaying) == {mindspore_key(name) for name in case.info["decayed"]}
    assert (len(decaying), len(decaying) + len(others)) == (69, 185)
