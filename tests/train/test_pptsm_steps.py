"""Training steps of PP-TSM, and precise batch normalisation, against those of PaddleVideo itself on a CPU.

Once at full width in float32 with 0.02 of the rate, since at the full one rounding is amplified, and once narrow in
float64, where every wrong variant shows. Paddle's running variance is the biased one on a CPU, torch's the unbiased
one, as that of cuDNN; here it is converted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from paddle_fill import CLASSIFIER, fill, recorded_clips
from torch import nn
from train_sections import section

from networks.checkpoints.pptsm_weights import paddle_key
from networks.pptsm import PPTSM
from networks.seeded import seeded_state_dict
from train.clips.clip_loader import Batch
from train.learning.parameter_groups import build_optimizer
from train.learning.precise_batch_norm import set_precise_statistics
from train.learning.schedules import rate_factor
from train.learning.steps import Trainer, mixture

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "paddlevideo"
SHARED = Path(__file__).parents[3] / "shared" / "fixtures" / "training" / "stnet_pptsm"
# The values that Paddle's operators take in float32.
NINE_TENTHS, DECAY, EPSILON, SLOPE = (float(np.float32(value)) for value in (0.9, 1e-4, 1e-5, 0.01))
MOMENTUM = 1 - NINE_TENTHS
EXACT = 1e-9
SGD = {
    "type": "sgd",
    "momentum": NINE_TENTHS,
    "nesterov": True,
    "weight_decay": DECAY,
    "groups": "pptsm",
}
SETTINGS = {
    "epochs": 4,
    "lr": 0.001,
    "optimizer": SGD,
    "schedule": {"type": "cosine", "by": "step"},
    "warmup": {"type": "line", "epochs": 1, "start_ratio": 0.5},
    "label_smoothing": 0.1,
    "mixup": 0.2,
}


class PaddleNorms:
    """Batch normalisation of a network whose running variance is updated with the biased one, as Paddle's on a CPU."""

    def __init__(self, network: nn.Module) -> None:
        self.sizes: dict[str, int] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = MOMENTUM, EPSILON
                module.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.sizes[name] = inputs[0].numel() // inputs[0].shape[1]

        return remember

    def make_biased(self, network: nn.Module, before: dict[str, torch.Tensor], momentum: float) -> None:
        """Replace each running variance that was `before` by the one that Paddle would have."""
        with torch.no_grad():
            for name, size in self.sizes.items():
                variance = network.get_buffer(f"{name}.running_var")
                old = before[f"{name}.running_var"] * (1 - momentum)
                variance.copy_(old + (variance - old) * (size - 1) / size)


def trainer_of(network: nn.Module, **changes: Any) -> Trainer:
    settings = section(**(SETTINGS | changes))
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


def values_of(network: nn.Module, names: list[str], count: int) -> np.ndarray:
    """Return `count` evenly spaced values of each tensor, fewer of a smaller one, under Paddle's names."""
    tensors = {paddle_key(key): value.detach().numpy() for key, value in network.state_dict().items()}
    flat = [tensors[name].ravel() for name in names]
    picked = [
        values[np.linspace(0, values.size - 1, min(values.size, count)).astype(np.int64)] for values in flat
    ]
    return np.concatenate(picked).astype(np.float64)


def rows_of(network: nn.Module, names: list[str]) -> np.ndarray:
    """Return 64 evenly spaced values of each tensor in Paddle's layout, a smaller one's padded with zeros."""
    tensors = {paddle_key(key): value.detach().numpy() for key, value in network.state_dict().items()}
    rows = np.zeros((len(names), 64), np.float32)
    for row, name in zip(rows, names, strict=True):
        flat = (tensors[name].T if name == CLASSIFIER else tensors[name]).ravel()
        picked = flat[np.linspace(0, flat.size - 1, min(flat.size, 64)).astype(int)]
        row[: picked.size] = picked
    return rows


class NarrowRun:
    """Steps of the original in float64 with an eighth of its channels, clips mixed with the draws of its generator.

    Paddle's operators take decay, momenta, epsilon and the slope of leaky ReLU in float32; the original's operator of
    label smoothing, which does too, was replaced by a product and a sum.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.truth = np.load(FIXTURES / "pptsm_narrow_32px_b3_mixup_float64_3steps.npz")
        self.meta = json.loads(str(self.truth["meta_json"]))
        monkeypatch.setattr("networks.pptsm._SLOPE", SLOPE)
        network = PPTSM(depth=50, num_classes=10, base_channels=8, dropout=0.0)
        shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
        network.load_state_dict(seeded_state_dict(shapes, seed=0))
        self.norms = PaddleNorms(network)
        self.trainer = trainer_of(network.double(), **changes)
        seeds = self.meta["seeds"]
        monkeypatch.setattr(
            Trainer,
            "_mixing",
            lambda self, count, number: mixture(
                np.random.RandomState(seeds[number]), count, self.section.mixup
            ),
        )

    def batch(self, number: int) -> Batch:
        generator = np.random.default_rng(self.meta["seeds"][number])
        clips = generator.standard_normal(self.meta["shape"]).astype(np.float32)
        return Batch(
            torch.from_numpy(clips).double(), torch.tensor(self.meta["labels"][number]), (0, 1, 2), ()
        )

    def steps(self, count: int) -> Iterator[tuple[float, float]]:
        """Yield the errors of loss and parameters after each step, relative to the largest value."""
        network = self.trainer.network
        for number in range(count):
            self.trainer.set_rate(rate_factor(self.trainer.section, number, steps_per_epoch=2))
            before = {key: value.clone() for key, value in network.state_dict().items()}
            result = self.trainer.step(self.batch(number), number)
            self.norms.make_biased(network, before, MOMENTUM)
            yield (
                abs(result.loss / self.truth["loss"][number] - 1),
                self.error(f"step{number + 1}/params", "param_names"),
            )

    def error(self, key: str, names: str) -> float:
        expected = self.truth[key]
        found = values_of(self.trainer.network, [str(name) for name in self.truth[names]], 16)
        return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_steps_and_precise_statistics_are_the_original_s_in_float64(monkeypatch: pytest.MonkeyPatch):
    run = NarrowRun(monkeypatch)
    for number, errors in enumerate(run.steps(3)):
        assert max(errors) < EXACT
        assert run.error(f"step{number + 1}/buffers", "buffer_names") < EXACT
    network = run.trainer.network
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    counters = [norm.get_buffer("num_batches_tracked").clone() for norm in norms]
    parameters = [value.clone() for value in network.parameters()]
    set_precise_statistics(run.trainer, ((number, run.batch(number)) for number in range(2)))
    run.norms.make_biased(network, network.state_dict(), 1.0)
    assert run.error("precise/buffers", "buffer_names") < EXACT
    for before, after in zip(parameters, network.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert {norm.momentum for norm in norms} == {MOMENTUM}
    assert counters == [norm.get_buffer("num_batches_tracked") for norm in norms]


@pytest.mark.parametrize("wrong", ["none", "clips that are not mixed", "one batch", "unbiased variance"])
def test_other_statistics_than_the_precise_ones_show(monkeypatch: pytest.MonkeyPatch, wrong: str):
    run = NarrowRun(monkeypatch)
    *_, errors = run.steps(3)
    assert max(errors) < EXACT
    network = run.trainer.network
    if wrong != "none":
        trainer = trainer_of(network, mixup=0.0) if wrong == "clips that are not mixed" else run.trainer
        numbers = range(1 if wrong == "one batch" else 2)
        set_precise_statistics(trainer, ((number, run.batch(number)) for number in numbers))
    if wrong != "unbiased variance":
        run.norms.make_biased(network, network.state_dict(), 1.0)
    assert run.error("precise/buffers", "buffer_names") > 100 * EXACT


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": SGD | {"nesterov": False}},
        {"optimizer": SGD | {"groups": "single"}},
        {"optimizer": SGD | {"groups": "no_decay_1d"}},
        {"optimizer": SGD | {"weight_decay": 0.0}},
        {"label_smoothing": 0.0},
        {"mixup": 0.0},
        {"mixup": 0.4},
        {"warmup": None},
    ],
    ids=["plain momentum", "one group", "one rate", "no decay", "no smoothing", "no mixup", "alpha", "rate"],
)
def test_a_wrong_variant_shows_in_the_first_step(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]):
    ((loss, parameters),) = NarrowRun(monkeypatch, **wrong).steps(1)
    assert max(loss, parameters) > 100 * EXACT


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder shared next to the checkout")
def test_steps_of_the_whole_network_are_the_original_s_in_float32(monkeypatch: pytest.MonkeyPatch):
    truth = np.load(SHARED / "pptsm_r50_mixup_64px_b2_lr0.02x_3steps.npz")
    info = json.loads(str(truth["info_json"]))
    names, rate, batch = info["names"], 0.01 * info["lr_scale"], info["batch"]
    trained = np.array([not name.endswith(("._mean", "._variance")) for name in names])
    network = PPTSM(depth=50, num_classes=info["num_classes"], dropout=0.0)
    fill(network, damped=True)
    norms = PaddleNorms(network)
    trainer = trainer_of(
        network, lr=rate, epochs=80, warmup={"type": "line", "epochs": 10, "start_ratio": 0.5}
    )
    steps = info["steps"]
    monkeypatch.setattr(
        Trainer,
        "_mixing",
        lambda self, count, number: (steps[number]["lam"], torch.tensor(steps[number]["perm"])),
    )

    def clips(seed: int, labels: list[int]) -> Batch:
        pixels = recorded_clips((batch, 8, 3, info["px"], info["px"]), kind="video", seed=seed)
        return Batch(torch.from_numpy(pixels), torch.tensor(labels), tuple(range(batch)), ())

    for number, step in enumerate(steps):
        factor = rate_factor(trainer.section, number, steps_per_epoch=info["lr_iters_per_epoch"])
        assert trainer.set_rate(factor) == pytest.approx(step["lr"], rel=1e-6)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        result = trainer.step(clips(info["seed"] + number, step["labels"]), number)
        norms.make_biased(network, before, MOMENTUM)
        assert result.loss == pytest.approx(step["loss"], abs=2e-6)
        found = rows_of(network, names)
        difference = np.abs(found - truth[f"step{number + 1}/values"])
        assert difference[trained].max() < 1e-6
        assert difference[~trained].max() < 2e-6
    # No mixture in this part of the original's run.
    plain = trainer_of(network, mixup=0.0)
    set_precise_statistics(
        plain, ((seed, clips(seed, [0] * batch)) for seed in info["precise_bn"]["input_seeds"])
    )
    norms.make_biased(network, network.state_dict(), 1.0)
    found = rows_of(network, info["precise_names"])
    assert np.abs(found - truth["precise/values"]).max() < 1e-5
    network.eval()
    with torch.inference_mode():
        logits = network(clips(info["eval_input_seed"], [0] * batch).pixels).numpy()
    assert np.abs(logits - truth["logits_eval_after"]).max() < 5e-6 * np.abs(truth["logits_eval_after"]).max()
