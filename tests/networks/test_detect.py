"""Detect networks and formats from the contents of files: original key lists and files of every format."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mindspore_bytes import checkpoint as ckpt_bytes
from mindspore_bytes import mindir, parameter
from torch import nn

from networks.__main__ import main
from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import Shape, save_mmaction2, shapes_of
from networks.checkpoints.mindspore_weights import mindspore_key
from networks.detect import count_elements, detect, fit
from networks.inspection import inspect_checkpoint
from networks.loading import build_network
from vidom.errors import BadDataError, UsageError
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
        assert fit(found, shapes, load_recipe(recipe)).differences == ()
    trained = document.get("trainable", document.get("n_trainable_elements"))
    if trained is not None:
        assert count_elements(shapes)[0] == trained


def test_different_classes_or_depth_of_a_recipe_are_reported(fixtures: Path) -> None:
    shapes, _ = original_shapes(fixtures, "paddle/pptsm_101_keys.json")
    found = detect(shapes)
    assert found is not None
    other = fit(found, shapes, load_recipe("pptsm_ucf101_66"))
    assert set(other.arguments) == {("depth", 50, 101), ("num_classes", 66, 400)}
    # Seventeen more blocks of three convolutions, each with five tensors, and both of the classifier's.
    assert len([row for row in other.differences if row.expected is None]) == 17 * 15
    assert {row.key for row in other.differences if row.expected and row.found} == {
        "head.fc.weight",
        "head.fc.bias",
    }


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


@pytest.fixture
def tiny() -> nn.Module:
    return build_network("tsm", {"depth": 10, "num_classes": 7, "base_channels": 8})


@pytest.mark.parametrize("zipped", [True, False])
def test_mmaction2_files_of_both_layouts(tmp_path: Path, tiny: nn.Module, zipped: bool) -> None:
    # The suffix is wrong on purpose: the format is detected from the bytes.
    path = tmp_path / "weights.ckpt"
    content = {
        "meta": {"epoch": 3},
        "state_dict": {f"module.{key}": value for key, value in tiny.state_dict().items()},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = inspect_checkpoint(path, recipes=[])
    assert found.framework == "mmaction2"
    assert ("zip archive" in found.layout) == zipped
    assert "state_dict and meta" in found.layout
    assert found.meta == {"epoch": 3}
    assert found.complete
    assert found.trained == sum(value.numel() for value in tiny.parameters())
    buffers = sum(value.numel() for value in tiny.buffers())
    assert found.statistics == buffers


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny_p26np1_proto4.pdparams", ["protocol 4", "flat", "internal names"]),
        ("files/nested_proto2.pdparams", ["protocol 2", "nested"]),
        ("files/sliced_proto2.pdparams", ["protocol 2", "slices"]),
        ("files/tiny.pdiparams", ["tiny.pdiparams.info"]),
    ],
)
def test_paddle_files_of_every_layout(fixtures: Path, name: str, words: list[str]) -> None:
    found = read_any(fixtures / "paddle" / name)
    assert found.framework == "paddle"
    assert [word for word in words if word not in found.layout] == []
    assert found.checkpoint.state_dict


def test_mindspore_files_of_every_layout(fixtures: Path, tmp_path: Path) -> None:
    chunked = read_any(fixtures / "mindspore/chunked.ckpt")
    assert chunked.framework == "mindspore"
    assert "3 entries in 48 slices" in chunked.layout
    arrays = {"conv1.weight": np.ones((4, 6, 7, 7), np.float32), "fc.bias": np.ones(5, np.float32)}
    checked = tmp_path / "a.pth"
    checked.write_bytes(ckpt_bytes(arrays, crc=True))
    assert read_any(checked).layout == "2 entries (.ckpt), CRC-32 verified"
    graph = tmp_path / "b.bin"
    graph.write_bytes(mindir(parameter(name, array) for name, array in arrays.items()))
    assert ".mindir" in read_any(graph).layout


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def hostile(path: Path, fixtures: Path) -> dict[str, bytes]:
    small = (fixtures / "paddle/tiny_p26np1_proto4.pdparams").read_bytes()
    stored = path / "stored.pth"
    torch.save({"state_dict": {"a": torch.ones(4)}}, stored)
    momentum = path / "momentum.pth"
    parameter = nn.Parameter(torch.ones(2))
    torch.save(torch.optim.SGD([parameter], lr=0.1, momentum=0.9).state_dict(), momentum)
    return {
        "is empty": b"",
        "web page": b"<!DOCTYPE html><html>404</html>",
        "gzip archive": b"\x1f\x8b\x08\x00",
        "ONNX": (fixtures / "ais_bench/tiny_bs1.onnx").read_bytes(),
        "LFS": b"version https://git-lfs.github.com/spec/v1\n",
        "starts with 23": b"# text",
        "encrypted": (fixtures / "mindspore/encrypted.ckpt").read_bytes(),
        "optimizer": momentum.read_bytes(),
        "no weights of a": ckpt_bytes({"global_step": np.ones(1, np.float32)}),
        "system": pickle.dumps(Attack(path / "run"), protocol=4),
        "damaged": small[: len(small) // 2],
        "directory cannot be read": stored.read_bytes()[:-40],
        "a field of": b"\n\xff\xff\xff\xff\xff\xff\xff\xff\x3f",
    }


def test_other_and_damaged_files_are_explained(tmp_path: Path, fixtures: Path) -> None:
    files = hostile(tmp_path, fixtures)
    path = tmp_path / "file"
    for word, content in files.items():
        path.write_bytes(content)
        with pytest.raises(BadDataError, match=word):
            read_any(path)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="no checkpoint file"):
        read_any(tmp_path / "absent")


def test_the_command_shows_which_recipes_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = Path(load_recipe("tsm_demo").checkpoint.file)
    path = tmp_path / committed.name
    shutil.copy(Path(__file__).parents[2] / committed, path)
    main(["inspect", str(path)])
    text = capsys.readouterr().out
    assert "TSM: depth 10, num_classes 12, base_channels 16" in text
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("recipe")}
    assert lines["tsm_demo"].endswith("fits and has the name of its published file")
    assert "num_classes is 12, expected 174" in lines["tsm_sthv2"]
    assert not any(name.startswith(("i3d", "stnet", "pptsm")) for name in lines)

    main(["inspect", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["network"]["arguments"]["depth"] == 10
    by_name = {one["recipe"]: one for one in document["recipes"]}
    assert by_name["tsm_demo"]["fits"]
    assert by_name["tsm_k400"]["arguments"]["num_classes"] == {"wanted": 400, "found": 12}
    assert {"key": "cls_head.fc_cls.bias", "wanted": [400], "found": [12]} in by_name["tsm_k400"][
        "differences"
    ]


def test_the_command_shows_the_contents_before_its_error(
    tmp_path: Path, tiny: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"stage\x1b[2J.conv.weight": torch.ones(2, 3), "stage2.bias": torch.ones(4)}, path)
    with pytest.raises(BadDataError, match=r"not of a supported network .*stage\?\[2J\.conv, stage2\.bias"):
        main(["inspect", str(path)])
    text = capsys.readouterr().out
    assert "unknown" in text
    assert "10 trained" in text
    assert "\x1b" not in text

    del tiny.cls_head
    save_mmaction2(path, tiny, {})
    with pytest.raises(BadDataError, match="looks like TSM, but 2 of its keys"):
        main(["inspect", str(path)])
    assert "cls_head.fc_cls.weight: expected [1, 64], found none" in capsys.readouterr().out
