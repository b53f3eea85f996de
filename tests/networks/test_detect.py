"""Networks detected from names and shapes, against the key lists of the original frameworks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from networks.checkpoints.checkpoint import Shape, shapes_of
from networks.checkpoints.mindspore_weights import mindspore_key
from networks.detect import count_elements, detect, fit
from networks.loading import build_network
from vidom.formats.recipe import load_recipe

STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}


def original_shapes(fixtures: Path, name: str) -> tuple[dict[str, Shape], dict[str, Any]]:
    """Return the shapes of an original's key list under our keys, and the document of the list."""
    document = json.loads((fixtures / name).read_text())
    if "entries" in document:
        return {entry["key"]: tuple(entry["shape"]) for entry in document["entries"]}, document
    if "parameters" in document:
        return {mindspore_key(one["name"]): tuple(one["shape"]) for one in document["parameters"]}, document
    shapes = {}
    for one in document["params"]:
        owner, _, leaf = one["name"].rpartition(".")
        key = f"{owner}.{STATISTICS.get(leaf, leaf)}"
        shapes[key] = tuple(one["shape"][:: -1 if key == "head.fc.weight" else 1])
    return shapes, document


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "title", "arguments", "fitting"),
    [
        ("mmaction2/tsm_sthv2_keys.json", "TSM", {"depth": 50, "num_classes": 174}, {"tsm_sthv2"}),
        ("mmaction2/tsm_ucf101_keys.json", "TSM", {"depth": 50, "num_classes": 101}, {"tsm_ucf101"}),
        ("mmaction2/i3d_k400_keys.json", "I3D", {"depth": 50, "num_classes": 400}, {"i3d_k400"}),
        ("paddle/pptsm_50_keys.json", "PP-TSM", {"depth": 50, "num_classes": 400}, {"pptsm_k400_uniform"}),
        (
            "paddle/pptsm_101_keys.json",
            "PP-TSM",
            {"depth": 101, "num_classes": 400},
            {"pptsm_k400_dense_r101"},
        ),
        ("mindspore/stnet_keys.json", "StNet", {"depthwise": False, "frames_per_segment": 5}, {"stnet_k400"}),
    ],
)
def test_original_networks_are_detected_by_their_keys(
    fixtures: Path, name: str, title: str, arguments: dict[str, Any], fitting: set[str]
) -> None:
    shapes, document = original_shapes(fixtures, name)
    found = detect(shapes)
    assert found is not None
    assert (found.title, found.differences) == (title, ())
    assert arguments.items() <= found.arguments.items()
    assert found.arguments["base_channels"] == 64
    for recipe in fitting:
        assert fit(found, shapes, load_recipe(recipe), config={}).differences == ()
    trained = document.get("trainable", document.get("n_trainable_elements"))
    if trained is not None:
        assert count_elements(shapes)[0] == trained


def test_different_classes_or_depth_of_a_recipe_are_reported(fixtures: Path) -> None:
    shapes, _ = original_shapes(fixtures, "paddle/pptsm_101_keys.json")
    found = detect(shapes)
    assert found is not None
    other = fit(found, shapes, load_recipe("pptsm_ucf101_66"), config={})
    assert set(other.arguments) == {("depth", 50, 101), ("num_classes", 66, 400)}
    # Seventeen more blocks of three convolutions, each with five tensors, and both of the classifier's.
    assert len([row for row in other.differences if row.expected is None]) == 17 * 15
    assert {row.key for row in other.differences if row.expected and row.found} == {
        "head.fc.weight",
        "head.fc.bias",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "arguments", "title"),
    [
        *(
            ("tsm", {"depth": depth, "base_channels": 4, "shift_div": 2}, "TSM")
            for depth in (10, 18, 34, 50, 101)
        ),
        ("tsm", {"depth": 50, "base_channels": 8, "shift": False}, "TSN (TSM without its shift)"),
        ("i3d", {"depth": 26, "base_channels": 4}, "I3D"),
        ("i3d", {"depth": 50, "base_channels": 4, "inflate_all": True}, "I3D"),
        ("stnet", {"base_channels": 8, "depthwise": True, "frames_per_segment": 2}, "StNet"),
    ],
)
def test_variants_are_distinguished(arch: str, arguments: dict[str, Any], title: str) -> None:
    with torch.device("meta"):
        network = build_network(arch, {**arguments, "num_classes": 9})
    found = detect(shapes_of(network.state_dict()))
    assert found is not None
    assert (found.arch, found.title, found.differences) == (arch, title, ())
    arguments.pop("shift_div", None)
    assert {**arguments, "num_classes": 9}.items() <= found.arguments.items()


def test_absent_and_unknown_layers_are_counted() -> None:
    with torch.device("meta"):
        network = build_network("tsm", {"depth": 18, "num_classes": 3, "base_channels": 8})
    shapes = shapes_of(network.state_dict())
    shapes["backbone.layer2.0.non_local_block.g.conv.weight"] = (8, 16, 1, 1)
    lost = [key for key in shapes if key.startswith("backbone.layer4.1.")]
    for key in lost:
        del shapes[key]
    found = detect(shapes)
    assert found is not None
    assert found.arguments["depth"] == 18
    missing = {row.key for row in found.differences if row.found is None}
    assert missing == {key for key in lost if not key.endswith("num_batches_tracked")}
    assert [row.key for row in found.differences if row.expected is None] == [
        "backbone.layer2.0.non_local_block.g.conv.weight"
    ]


@pytest.mark.parametrize(
    "shapes",
    [
        {"layer1.0.conv1.weight": (64, 64, 1, 1), "fc.weight": (1000, 512)},
        {"backbone.conv1.conv.weight": (64, 3, 7), "backbone.layer1.0.conv1.conv.weight": (1,)},
        {"backbone.conv1.conv.weight": (0, 3, 7, 7), "backbone.layer1.0.conv1.conv.weight": (1,)},
        {"backbone.bb_0_0.conv0._conv.weight": (1,), "backbone.conv1_3._conv.weight": (7,)},
        {"backbone.bb_0_0.conv0._conv.weight": (1,), "backbone.conv1_3._conv.weight": (1 << 40, 0)},
    ],
    ids=["torchvision", "three dimensions", "no channels", "odd width", "absurd width"],
)
def test_shapes_of_other_networks_are_not_detected(shapes: dict[str, Shape]) -> None:
    assert detect(shapes) is None
