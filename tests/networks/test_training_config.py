"""The configuration in a checkpoint compared with recipes; nothing in it is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint
from networks.loading import load_network
from networks.training_config import contradictions, read_config
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe

FIXTURES = Path(__file__).parents[2]
DEMO = load_recipe("tsm_demo")
I3D = load_recipe("i3d_k400")
TSM = """model = dict(type='Recognizer2D', backbone=dict(type='ResNetTSM', depth=10, shift_div=8{backbone}),
    cls_head=dict(type='TSMHead', num_classes=12{head}))
"""
SIXTEEN = ["trained with num_segments 16, the recipe has 8"]


def found(config: Any, recipe: Any = DEMO) -> list[str]:
    checkpoint = Checkpoint(Path("x.pth"), "", "mmaction2", "", {}, {}, config=config)
    return [str(one) for one in contradictions(read_config(checkpoint), recipe)]


def tsm(backbone: str = "", head: str = "", rest: str = "") -> str:
    return TSM.format(backbone=backbone, head=head) + rest


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (tsm(), []),
        (tsm(", num_segments=16", ", num_segments=16"), SIXTEEN),
        (tsm(head=", num_segments=16"), SIXTEEN),
        (tsm().replace("shift_div=8", "shift_div=4"), ["trained with shift_div 4, the recipe has 8"]),
        (tsm().replace("depth=10", "depth=18"), ["trained with depth 18, the recipe has 10"]),
        (tsm().replace("=12", "=13"), ["trained with num_classes 13, the recipe has 12"]),
        (tsm(", temporal_pool=True"), ["trained with temporal_pool True, the recipe has False"]),
        ("n = 16\n" + tsm(", num_segments=n"), SIXTEEN),
        (
            tsm(rest="train_pipeline = [dict(type='mmaction.SampleFrames', clip_len=1, num_clips=16)]"),
            SIXTEEN,
        ),
        (
            tsm(
                rest="train_dataloader = dict(dataset=dict(pipeline=[dict(type='SampleFrames', clip_len=4)]))"
            ),
            ["trained with clip_len 4, the recipe has 1"],
        ),
        (
            tsm(
                rest="data = {'train': {'pipeline': [dict(type='Normalize', mean=[0, 0, 0], std=(1.0, 1, 1))]}}"
            ),
            [
                "trained with mean [0.0,0.0,0.0], the recipe has [123.675,116.28,103.53]",
                "trained with std [1.0,1.0,1.0], the recipe has [58.395,57.12,57.375]",
            ],
        ),
        ({"model": {"backbone": {"type": "ResNetTSM", "num_segments": 16}}}, SIXTEEN),
    ],
)
def test_contradictions_of_a_tsm(config: Any, expected: list[str]) -> None:
    assert found(config) == expected


def test_mmaction2s_defaults_count_where_the_configuration_states_none() -> None:
    recipe = load_recipe("tsm_demo", ["views.num_segments=16", "network.shift_div=4"])
    stated = tsm().replace(", shift_div=8", "")
    assert found(stated, recipe) == [
        "trained with num_segments 8, the recipe has 16",
        "trained with shift_div 8, the recipe has 4",
    ]


def test_segments_do_not_matter_without_the_shift() -> None:
    recipe = load_recipe("tsm_demo", ["network.shift=false"])
    assert found(tsm(", num_segments=3").replace("ResNetTSM", "ResNet"), recipe) == []


def test_contradictions_of_an_i3d() -> None:
    config = (
        "model = dict(backbone=dict(type='ResNet3d', depth=50, conv1_stride_t=1, pool1_stride_t=2))\n"
        "train_pipeline = [dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1)]\n"
    )
    assert found(config, I3D) == [
        "trained with conv1_stride_t 1, the recipe has 2",
        "trained with clip_len 16, the recipe has 32",
        "trained with frame_interval 4, the recipe has 2",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 50_000,
        "-" * 50_000 + "1",
        "+".join("1" * 30_000),
        "a" + ".b" * 40_000,
        "x" * 200_000,
        "a = " + "9" * 5000,
        "a\0b",
        b"model = 1",
        7,
    ],
)
def test_a_text_that_cannot_be_read_is_reported(text: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert found(text) == []
    assert "is not compared with the recipe" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "model = dict(backbone=dict(num_segments=__import__('os').system('touch {marker}')))",
        "__import__('os').system('touch {marker}')",
        "model = [open('{marker}', 'w') for _ in 'a']",
        "model = dict(open('{marker}', 'w'), backbone=dict(num_segments=16 ** 16 ** 16))",
        "model = dict(backbone=3, cls_head=[dict(num_classes=5)])",
        "model = dict(backbone=dict(num_segments='16', depth=[1], shift_div=None, type=5))",
        "train_pipeline = [3, dict(type=[]), dict(type='SampleFrames', clip_len=dict())]",
        "model = {**model, 'backbone': {1: 2, None: 3}}",
        "base = dict(num_classes=5)\nmodel = dict(cls_head=dict(**base))",
        "model.backbone.num_segments = 16",
    ],
)
def test_nothing_in_the_text_is_executed(tmp_path: Path, text: str) -> None:
    marker = tmp_path / "run"
    assert found(text.replace("{marker}", str(marker))) == []
    assert not marker.exists()


def test_a_contradiction_is_refused_unless_it_is_ignored(tmp_path: Path) -> None:
    committed = FIXTURES / DEMO.checkpoint.file
    state: dict[str, Tensor] = torch.load(committed, weights_only=True)["state_dict"]
    path = tmp_path / "sixteen.pth"
    config = tsm(", num_segments=16", ", num_segments=16").replace("shift_div=8", "shift_div=4")
    for key in ("config", "cfg"):
        torch.save({"meta": {key: config}, "state_dict": state}, path)
        with pytest.raises(BadDataError, match=r"num_segments 16, the recipe has 8.*shift_div 4") as caught:
            load_network(DEMO, str(path))
        assert "--set views.num_segments=16 --set network.shift_div=4" in str(caught.value)
        assert "--ignore_meta" in str(caught.value)
    load_network(DEMO, str(path), ignore_meta=True)
    fitting = load_recipe("tsm_demo", ["views.num_segments=16", "network.shift_div=4"])
    load_network(fitting, str(path))
