"""Checkpoints of mmaction2: every layout that it wrote, saving, and loading into a network."""

from __future__ import annotations

import datetime
import hashlib
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmaction2_files import META, equal, small
from torch import Tensor

from networks.checkpoints.checkpoint import load_state, save_mmaction2
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_either_layout_gives_back_every_tensor(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, protocol: int
) -> None:
    path = tmp_path / "tsm.pth"
    content = {"meta": META, "state_dict": OrderedDict(state), "optimizer": {"state": {0: torch.ones(3)}}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read = read_torch(path)
    assert equal(read.state_dict, state)
    assert read.meta == META
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("zipped", [True, False])
def test_views_types_and_parameters_are_read_unchanged(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.empty(0),
        "parameter": torch.nn.Parameter(base[2]),
        **{
            str(kind): torch.tensor([0, 1, 1], dtype=kind)
            for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8)
        },
        **{str(kind): torch.tensor([0, 1, 1], dtype=kind) for kind in (torch.uint8, torch.bool)},
    }
    path = tmp_path / "views.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    read = read_torch(path).state_dict
    assert equal(read, {key: value.detach() for key, value in tensors.items()})
    assert all(read[key].dtype == tensors[key].dtype for key in tensors)


def test_a_plain_state_dict_with_the_keys_of_a_parallel_wrapper_is_read(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "bare.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    read = read_torch(path)
    assert equal(read.state_dict, state)
    assert read.meta == {}


@pytest.fixture
def mmengine() -> Iterator[types.ModuleType]:
    """A package that exists when the checkpoint is written but not when it is read."""
    name = "mmengine_stub"
    module = types.ModuleType(name)

    def called(*arguments: object) -> None:
        raise RuntimeError("code of the checkpoint was called")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(1000.0)
            self.methods = deque(["mean"], maxlen=4)

        def __setstate__(self, state: object) -> None:
            called()

    class ConfigDict(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            super().__setitem__(key, value)

    class Listing(list[Any]):
        pass

    for kind in (HistoryBuffer, ConfigDict, Listing):
        kind.__module__, kind.__qualname__ = name, kind.__name__
        setattr(module, kind.__name__, kind)
    sys.modules[name] = module
    yield module
    sys.modules.pop(name, None)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_absent_packages_are_ignored(
    tmp_path: Path, state: dict[str, Tensor], mmengine: types.ModuleType, zipped: bool, protocol: int
) -> None:
    buffer = mmengine.HistoryBuffer()
    config = mmengine.ConfigDict(model=mmengine.ConfigDict(depth=50), steps=(20, 40))
    content = {
        "meta": {
            **META,
            "cfg": config,
            "acc": np.float64(0.5),
            "when": datetime.datetime(2023, 1, 2),
            "tags": {1},
        },
        "state_dict": OrderedDict(state) | {"data_preprocessor.mean": torch.zeros(3)},
        "message_hub": {"log_scalars": OrderedDict(loss=buffer), "listing": mmengine.Listing([buffer])},
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(0.1), "params": [0]}]},
        "param_schedulers": [{(1, 2): "a tuple as a key"}, frozenset({1}), complex(1, 2), Path("work_dir")],
    }
    path = tmp_path / "epoch_50.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    sys.modules.pop("mmengine_stub")
    read = read_torch(path)
    assert equal(read.state_dict, state)
    assert read.meta == META


def test_a_file_that_does_not_match_the_hash_in_its_name_gives_a_warning(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    read_torch(checkpoint.rename(checkpoint.with_name(f"tsm_r50-{true}.pth")))
    assert capsys.readouterr().err == ""
    read_torch(checkpoint.with_name(f"tsm_r50-{true}.pth").rename(checkpoint.with_name("tsm-0badf00d.pth")))
    log = capsys.readouterr().err
    assert log.startswith("warning:")
    assert "0badf00d" in log
    assert true in log


def test_a_saved_file_is_read_by_us_and_by_torch(tmp_path: Path) -> None:
    network = small()
    save_mmaction2(tmp_path / "one.pth", network, META)
    save_mmaction2(tmp_path / "two.pth", network, META)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pth", "two.pth"]
    read = read_torch(tmp_path / "one.pth")
    assert equal(read.state_dict, dict(network.state_dict()))
    assert read.meta == META
    assert torch.load(tmp_path / "one.pth", weights_only=True)["meta"] == META


def test_loading_sets_the_checkpoints_values(state: dict[str, Tensor]) -> None:
    network = small(num_classes=5)
    for value in network.state_dict().values():
        value.zero_()
    load_state(network, state, source="The checkpoint a.pth")
    assert equal(dict(network.state_dict()), state)


def test_counters_of_training_may_be_absent(state: dict[str, Tensor]) -> None:
    load_state(
        small(), {key: value for key, value in state.items() if "num_batches" not in key}, source="a.pth"
    )


def test_a_different_class_count_is_reported_first(state: dict[str, Tensor]) -> None:
    with pytest.raises(BadDataError) as caught:
        load_state(small(num_classes=9), state, source="The checkpoint a.pth")
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("The checkpoint a.pth has 5 classes, the recipe has 9.")
    rows = [
        ("key", "expected", "found"),
        ("cls_head.fc_cls.weight", "[9, 64]", "[5, 64]"),
        ("cls_head.fc_cls.bias", "[9]", "[5]"),
    ]
    assert [tuple(re.split(" {2,}", line.strip())) for line in lines[1:]] == rows
    assert len({line.index(row[2]) for line, row in zip(lines[1:], rows, strict=True)}) == 1


def test_nothing_is_loaded_when_a_key_does_not_fit(state: dict[str, Tensor]) -> None:
    network = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    changed = {key: value + 1 for key, value in state.items()}
    changed["backbone.conv1.bn.weight"] = torch.ones(7)
    changed["backbone.layer9.conv.weight"] = changed.pop("backbone.layer1.0.conv2.conv.weight")
    with pytest.raises(BadDataError) as caught:
        load_state(network, changed, source="The checkpoint a.pth")
    message = str(caught.value)
    assert "keys missing: 1, unexpected: 1, of a different shape: 1" in message
    rows = [line.split() for line in message.split("\n")[2:]]
    assert ["backbone.conv1.bn.weight", "[8]", "[7]"] in rows
    assert ["backbone.layer1.0.conv2.conv.weight", "[8,", "8,", "3,", "3]", "-"] in rows
    assert ["backbone.layer9.conv.weight", "-", "[8,", "8,", "3,", "3]"] in rows
    assert equal(dict(network.state_dict()), before)


def test_a_long_table_is_truncated(state: dict[str, Tensor]) -> None:
    foreign = {f"encoder.{key}": value for key, value in state.items()}
    with pytest.raises(BadDataError) as caught:
        load_state(small(), foreign, source="The checkpoint a.pth")
    counters = sum("num_batches" in key for key in state)
    lines = str(caught.value).split("\n")
    assert len(lines) == 1 + 1 + 20 + 1
    assert lines[-1] == f"  and {2 * len(state) - counters - 20} more"


def test_hostile_keys_neither_flood_nor_control_the_terminal():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(BadDataError) as error:
        load_state(network, {"\x1b[2J" + "k" * 100_000: torch.zeros(1)}, source="the file")
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 2000
