"""The command `inspect` on checkpoint files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from networks.checkpoints.checkpoint import save_mmaction2
from networks.inspection import inspect_checkpoint, main
from networks.loading import build_network
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe


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


def test_the_command_shows_which_recipes_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = Path(load_recipe("tsm_demo").checkpoint.file)
    path = tmp_path / committed.name
    shutil.copy(Path(__file__).parents[2] / committed, path)
    main([str(path)])
    text = capsys.readouterr().out
    assert "TSM: depth 10, num_classes 12, base_channels 16" in text
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("recipe")}
    assert lines["tsm_demo"].endswith("fits and has the name of its published file")
    assert "num_classes is 12, expected 174" in lines["tsm_sthv2"]
    assert not any(name.startswith(("i3d", "stnet", "pptsm")) for name in lines)

    main([str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["network"]["arguments"]["depth"] == 10
    by_name = {one["recipe"]: one for one in document["recipes"]}
    assert by_name["tsm_demo"]["fits"]
    assert by_name["tsm_k400"]["arguments"]["num_classes"] == {"wanted": 400, "found": 12}
    assert {"key": "cls_head.fc_cls.bias", "wanted": [400], "found": [12]} in by_name["tsm_k400"][
        "differences"
    ]


def test_the_command_shows_what_a_checkpoint_was_trained_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = Path(__file__).parents[2] / load_recipe("tsm_demo").checkpoint.file
    config = "model = dict(backbone=dict(type='ResNetTSM', depth=10, num_segments=16), cls_head=dict(num_classes=12))"
    path = tmp_path / "sixteen.pth"
    state = torch.load(committed, weights_only=True)["state_dict"]
    torch.save({"meta": {"config": config}, "state_dict": {"model": state}}, path)
    main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert "note       weights are those under 'state_dict.model'" in lines
    assert "recipe     tsm_demo    does not fit: trained with num_segments 16, the recipe has 8" in lines, (
        lines
    )
    main([str(path), "--json"])
    demo = next(one for one in json.loads(capsys.readouterr().out)["recipes"] if one["recipe"] == "tsm_demo")
    assert not demo["fits"]
    assert demo["trained_with"] == {"views.num_segments": {"wanted": 8, "found": 16}}
    assert demo["differences"] == []


def test_the_command_shows_the_contents_before_its_error(
    tmp_path: Path, tiny: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"stage\x1b[2J.conv.weight": torch.ones(2, 3), "stage2.bias": torch.ones(4)}, path)
    with pytest.raises(
        BadDataError, match=r"not of a supported network .*stage\\x1b\[2J\.conv, stage2\.bias"
    ):
        main([str(path)])
    text = capsys.readouterr().out
    assert "unknown" in text
    assert "10 trained" in text
    assert "\x1b" not in text

    del tiny.cls_head
    save_mmaction2(path, tiny, {})
    with pytest.raises(BadDataError, match="looks like TSM, but 2 of its keys"):
        main([str(path)])
    assert "cls_head.fc_cls.weight: expected [1, 64], found none" in capsys.readouterr().out
