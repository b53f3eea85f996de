"""Weights of image ResNets, named as torchvision names them and inflated here by numpy."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks.checkpoints.pptsm_weights import paddle_key
from networks.loading import build_network
from train.learning.initial_weights import load_pretrained
from vidom.errors import BadDataError

FIXTURES = Path(__file__).parents[1] / "fixtures"
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
NETWORKS = {
    "tsm": ("tsm", {"depth": 18, "base_channels": 4, "num_segments": 4, "shift_div": 4}),
    "i3d": ("i3d", {"depth": 50, "base_channels": 4}),
}


def image_resnet(depth: int, *, base: int = 4, classes: int = 1000) -> dict[str, Tensor]:
    """Return the state dict of torchvision's ResNet of this depth with `base` instead of 64 channels, random values."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def add(conv: str, norm: str, out: int, into: int, side: int) -> None:
        state[f"{conv}.weight"] = torch.randn(out, into, side, side, generator=generator)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{leaf}"] = torch.rand(out, generator=generator)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    add("conv1", "bn1", base, 3, 7)
    expansion, into = (1, base) if depth < 50 else (4, base)
    sides = (3, 3) if depth < 50 else (1, 3, 1)
    for layer, count in enumerate(BLOCKS[depth], 1):
        width = base * 2 ** (layer - 1)
        for block in range(count):
            name, first = f"layer{layer}.{block}", into
            for number, side in enumerate(sides, 1):
                out = width * expansion if number == len(sides) else width
                add(f"{name}.conv{number}", f"{name}.bn{number}", out, into, side)
                into = out
            if first != into:
                add(f"{name}.downsample.0", f"{name}.downsample.1", into, first, 1)
    state["fc.weight"] = torch.randn(classes, into, generator=generator)
    state["fc.bias"] = torch.randn(classes, generator=generator)
    return state


def network_of(name: str, classes: int = 3) -> nn.Module:
    arch, arguments = NETWORKS[name]
    torch.manual_seed(1)
    return build_network(arch, {**arguments, "num_classes": classes})


def key_in_network(name: str, network: str) -> str:
    """Return where mmaction2 puts one of torchvision's keys, as its `_load_torchvision_checkpoint` does."""
    *parents, module, leaf = name.split(".")
    if parents and parents[-1] == "downsample":
        module = {"0": "conv", "1": "bn"}[module]
    else:
        kind, number = module[:-1], module[-1]
        # TSM wraps the first convolution of each block into its shift.
        shifted = network == "tsm" and parents and (kind, number) == ("conv", "1")
        module = f"conv{number}.{kind}" + (".net" if shifted else "")
    return ".".join(["backbone", *parents, module, leaf])


@pytest.mark.parametrize("name", ["tsm", "i3d"])
def test_an_image_resnet_gives_all_but_the_classifier(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    image = image_resnet(NETWORKS[name][1]["depth"])
    assert len(image) == {"tsm": 122, "i3d": 320}[name]  # as many as torchvision's
    torch.save(image, tmp_path / "resnet.pth")
    network = network_of(name)
    classifier = {key: value.clone() for key, value in network.state_dict().items() if "cls_head" in key}
    load_pretrained(network, str(tmp_path / "resnet.pth"))
    state = network.state_dict()
    assert len(classifier) == 2
    depths = set()
    for key, value in image.items():
        if key.startswith("fc."):
            continue
        found = state.pop(key_in_network(key, name)).numpy()
        expected = value.numpy()
        if found.ndim == 5:
            depths.add(found.shape[2])
            expected = np.repeat(expected[:, :, None], found.shape[2], axis=2) / found.shape[2]
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=key)
    assert depths == (set() if name == "tsm" else {1, 3, 5})
    assert state.keys() == classifier.keys()
    assert all(torch.equal(state[key], value) for key, value in classifier.items())
    assert all(key in caplog.text for key in classifier)


def test_a_network_of_other_classes_gives_all_but_the_classifier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    torch.save({"state_dict": network_of("i3d", classes=5).state_dict()}, tmp_path / "five.pth")
    torch.save({"state_dict": network_of("i3d").state_dict()}, tmp_path / "three.pth")
    load_pretrained(network_of("i3d"), str(tmp_path / "three.pth"))
    assert not caplog.records
    load_pretrained(network_of("i3d"), str(tmp_path / "five.pth"))
    assert "cls_head.fc_cls.weight" in caplog.text and "cls_head.fc_cls.bias" in caplog.text
    assert "backbone" not in caplog.text


def test_an_image_resnet_of_another_depth_is_refused(tmp_path: Path):
    torch.save(image_resnet(50), tmp_path / "resnet.pth")
    with pytest.raises(BadDataError, match=r"does not fit.*backbone\.layer1\.0\.conv1"):
        load_pretrained(network_of("tsm"), str(tmp_path / "resnet.pth"))


@pytest.mark.parametrize(
    ("depth", "file"),
    [(50, "ResNet50_vd_ssld_v2_pretrained.pdparams"), (101, "ResNet101_vd_ssld_pretrained.pdparams")],
)
def test_a_resnet_d_of_paddleclas_gives_all_of_pp_tsm_but_its_classifier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, depth: int, file: str
):
    """The original looks each of its keys up without `backbone.` too; the image network has `out` as its classifier."""
    network = build_network("pptsm", {"depth": depth, "num_classes": 5, "base_channels": 8})
    listed = json.loads((FIXTURES / "paddle" / f"pptsm_{depth}_keys.json").read_text())["params"]
    names = [entry["name"] for entry in listed]
    state = network.state_dict()
    assert {paddle_key(key) for key in state if not key.endswith("num_batches_tracked")} == set(names)
    generator = np.random.default_rng(0)
    image = {
        name.removeprefix("backbone."): generator.random(state[key].shape, np.float32)
        for key in state
        if (name := paddle_key(key)).startswith("backbone.") and not key.endswith("num_batches_tracked")
    }
    path = tmp_path / file
    classifier = {"out.weight": np.ones((256, 1000), np.float32), "out.bias": np.ones(1000, np.float32)}
    path.write_bytes(pickle.dumps(image | classifier, protocol=4))
    with caplog.at_level("WARNING"):
        load_pretrained(network, str(path))
    assert "head.fc.weight" in caplog.text and "backbone." not in caplog.text
    for key, tensor in network.state_dict().items():
        if key.startswith("head."):
            assert torch.equal(tensor, state[key])
        elif not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(tensor, image[paddle_key(key).removeprefix("backbone.")])
    del image["bb_1_0.short._conv.weight"]
    path.write_bytes(pickle.dumps(image, protocol=4))
    with pytest.raises(BadDataError, match=r"backbone\.bb_1_0\.short\._conv\.weight"):
        load_pretrained(network, str(path))
