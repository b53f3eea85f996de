"""StNet's first weights against those that the original has in MindSpore 2.7, random and from a ResNet-50."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks.checkpoints.checkpoint import save_mmaction2
from networks.checkpoints.mindspore_ckpt import read_ckpt
from networks.checkpoints.mindspore_weights import mindspore_key
from networks.stnet import StNet
from train.learning.initial_weights import load_pretrained
from vidom.errors import BadDataError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "training" / "mindspore"
RESNET = FIXTURES / "resnet50_narrow.ckpt"
TRUTH = json.loads((FIXTURES / "stnet_initial.json").read_text())


def narrow(*, classes: int = 10, seed: int = 1) -> StNet:
    """Return the network that the narrow ResNet-50 fits, with weights of this seed."""
    torch.manual_seed(seed)
    return StNet(num_classes=classes, num_segments=3, pool_size=2, base_channels=2)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    return {key: tensor.clone() for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def test_random_weights_have_the_original_s_range():
    torch.manual_seed(0)
    state = StNet(num_classes=400).state_dict()
    for name, largest in TRUTH["largest"].items():
        found = float(state[mindspore_key(name)].abs().max())
        # The largest of at least 64 random numbers, of which the original's are others; a ReLU's gain would be 2.4.
        assert found == pytest.approx(largest, rel=0.1 if state[mindspore_key(name)].ndim == 1 else 0.01), (
            name
        )


def test_a_resnet_50_of_mindspore_is_taken_as_the_original_takes_it(caplog: pytest.LogCaptureFixture):
    network = narrow()
    before = state_of(network)
    with caplog.at_level(logging.WARNING):
        load_pretrained(network, str(RESNET))
    after, (file, _) = state_of(network), read_ckpt(RESNET)
    kept = {key for key in after if torch.equal(before[key], after[key])}
    assert kept == {mindspore_key(name) for name in TRUTH["random"]}
    assert (len(after) - len(kept), len(kept)) == (265, 36)
    with np.load(FIXTURES / "stnet_stem.npz") as stem:
        np.testing.assert_allclose(after["conv1.weight"], stem["conv1"], rtol=0, atol=1e-7)
    for name, tensor in file.items():
        if name != "conv1.weight" and name not in TRUTH["unused"]:
            np.testing.assert_array_equal(after[mindspore_key(name)], tensor)
    assert len(caplog.messages) == 2
    assert "is of an image ResNet" in caplog.messages[0]
    assert all(name in caplog.messages[1] for name in TRUTH["unused"])


def test_the_mean_over_the_stem_s_planes_is_that_over_the_colours():
    network, (file, _) = narrow(), read_ckpt(RESNET)
    load_pretrained(network, str(RESNET))
    total = network.conv1.weight.detach().sum(1)
    np.testing.assert_allclose(total, file["conv1.weight"].sum(1), rtol=0, atol=1e-5)


def test_the_network_s_own_weights_are_taken_but_for_another_classifier(tmp_path: Path):
    trained, other = narrow(seed=2), narrow(classes=7)
    save_mmaction2(tmp_path / "own.pth", trained, {})
    before = state_of(other)
    load_pretrained(other, str(tmp_path / "own.pth"))
    for key, tensor in state_of(other).items():
        torch.testing.assert_close(
            tensor, before[key] if key.startswith("fc.") else trained.state_dict()[key]
        )


def test_weights_without_a_part_of_the_temporal_blocks_are_refused(tmp_path: Path):
    network = narrow()
    state = {
        key: tensor for key, tensor in network.state_dict().items() if not key.startswith("temp1.conv1.")
    }
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    before = state_of(network)
    with pytest.raises(BadDataError, match=r"temp1\.conv1"):
        load_pretrained(network, str(tmp_path / "own.pth"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_of(network).items())
