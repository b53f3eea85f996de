"""Training steps of StNet against those of MindSpore's own optimizer, loss and batch normalisation, in float32.

The original's network, eight channels wide, ran three steps of `nn.Momentum` in MindSpore 2.7 on a CPU. Most of its
ReLUs are open (offsets of 2 and 4), so that rounding is not amplified; the decay is 0.1, since float32 does not show
1e-4.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from train_sections import section

from networks.checkpoints.mindspore_weights import mindspore_key
from networks.stnet import StNet
from train.clips.clip_loader import Batch
from train.learning.parameter_groups import build_optimizer
from train.learning.steps import Trainer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "mindspore"
TRUTH = np.load(FIXTURES / "stnet_steps.npz")
INFO: dict[str, Any] = json.loads(str(TRUTH["info_json"]))
NAMES = [str(name) for name in TRUTH["names"]]
LIMITS = {"loss": 1e-4, "parameter": 1e-6, "mean": 2e-5, "variance": 5e-5}
GAINS = {
    r"layer\d\.\d+\.bn3\.gamma": 0.25,
    r"layer\d\.0\.down_sample_layer\.1\.gamma": 0.5,
    r"temp\d\.bn1\.bn2d\.gamma": 0.5,
}
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the initial tensor of MindSpore's parameter `name`."""
    normal = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    match name.rpartition(".")[2]:
        case "moving_variance":
            values = 1 + 0.1 * np.abs(normal)
        case "gamma":
            values = 1 + 0.1 * normal
        case "weight":
            values = normal * math.sqrt(2 / math.prod(shape[1:]))
        case "beta":
            values = 0.1 * normal + 2
        case _:
            values = 0.1 * normal
    if re.fullmatch(r"temp\d\.conv1\.bias", name):
        values = values + 4
    gain = next((gain for pattern, gain in GAINS.items() if re.fullmatch(pattern, name)), 1.0)
    return (values * gain).astype(np.float32)


def batch(number: int) -> Batch:
    """Return the clips of a step, noise with a contrast for each segment and an offset for each plane."""
    random, (count, segments) = np.random.default_rng(100 + number), (INFO["batch"], INFO["T"])
    clips = random.standard_normal((count, segments, 3 * INFO["N"], INFO["size"], INFO["size"]))
    contrast = random.uniform(0.5, 1.5, (count, segments, 1, 1, 1))
    offset = random.uniform(-1, 1, (count, segments, 3 * INFO["N"], 1, 1))
    pixels = (clips * contrast + offset).astype(np.float32)
    labels = random.integers(0, INFO["classes"], count)
    return Batch(torch.from_numpy(pixels), torch.from_numpy(labels), tuple(range(count)), ())


def sampled(network: nn.Module) -> dict[str, np.ndarray]:
    """Return at most 16 values of each tensor, evenly spaced, under MindSpore's names."""
    state = network.state_dict()
    flat = {name: state[mindspore_key(name)].detach().numpy().ravel() for name in NAMES}
    return {
        name: values[np.linspace(0, values.size - 1, min(values.size, 16)).astype(np.int64)].astype(
            np.float64
        )
        for name, values in flat.items()
    }


def trainer_of(**optimizer: Any) -> Trainer:
    settings = section(
        lr=INFO["lr"],
        optimizer={
            "type": "sgd",
            "momentum": INFO["momentum"],
            "weight_decay": INFO["weight_decay"],
            "groups": "no_decay_norm",
            **optimizer,
        },
    )
    network = StNet(
        num_classes=INFO["classes"],
        num_segments=INFO["T"],
        frames_per_segment=INFO["N"],
        pool_size=INFO["pool"],
        base_channels=INFO["base"],
    )
    state = network.state_dict()
    shapes = {name: tuple(state[mindspore_key(name)].shape) for name in NAMES}
    filled = {mindspore_key(name): torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}
    network.load_state_dict({**state, **filled})
    built = build_optimizer(network, settings, lr=settings.lr)
    trainer = Trainer(Accelerator(cpu=True), network, built, nn.Identity(), settings, 0)
    trainer.train_mode()
    return trainer


def excess(trainer: Trainer, *, steps: int) -> dict[str, float]:
    """Return, by kind, the largest difference from the original in the first steps as a part of its limit."""
    found = dict.fromkeys(LIMITS, 0.0)

    def note(kind: str, difference: float) -> None:
        found[kind] = max(found[kind], difference / LIMITS[kind])

    for step in range(steps):
        note("loss", abs(trainer.step(batch(step), step).loss - float(TRUTH["loss"][step])))
        values = sampled(trainer.network)
        sizes = [len(value) for value in values.values()]
        expected = np.split(TRUTH[f"step{step + 1}"].astype(np.float64), np.cumsum(sizes)[:-1])
        for (name, value), truth in zip(values.items(), expected, strict=True):
            kind = {"moving_mean": "mean", "moving_variance": "variance"}.get(
                name.rpartition(".")[2], "parameter"
            )
            scale = np.abs(truth).max() if kind == "variance" else 1.0
            note(kind, float(np.abs(value - truth).max() / scale))
    return found


def test_inputs_and_initial_tensors_are_rebuilt_exactly():
    assert [zlib.crc32(batch(number).pixels.numpy().tobytes()) for number in (0, 1, 2, 9)] == INFO[
        "input_crc32"
    ]
    np.testing.assert_array_equal(
        np.concatenate(list(sampled(trainer_of().network).values())), TRUTH["initial"]
    )


def test_three_steps_are_the_original_s():
    trainer = trainer_of()
    found = excess(trainer, steps=3)
    assert max(found.values()) <= 1, found
    with torch.inference_mode():
        logits = trainer.network.eval()(batch(9).pixels).numpy()
    np.testing.assert_allclose(logits, TRUTH["logits"], rtol=0, atol=5e-3)


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
    assert excess(trainer_of(**optimizer), steps=2)[kind] > 10


@pytest.mark.parametrize(
    ("change", "kind"),
    [(dampened, "parameter"), (biased, "variance"), (mindspore_s_momentum, "variance")],
)
def test_other_conventions_are_noticed(change: Callable[[Trainer], None], kind: str):
    trainer = trainer_of()
    change(trainer)
    assert excess(trainer, steps=2)[kind] > 10


def test_the_tensors_that_decay_are_those_of_mindspore_s_own_flags():
    trainer = trainer_of()
    names = {id(parameter): name for name, parameter in trainer.network.named_parameters()}
    decaying, others = ([names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [INFO["weight_decay"], 0]
    assert set(decaying) == {mindspore_key(name) for name in INFO["decays"]}
    assert (len(decaying), len(decaying) + len(others)) == (69, 185)
