"""Checkpoints of every layout that mmaction2 wrote, and files that were made to do harm."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import pickle
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import networks.checkpoints.inert_pickle
from networks.checkpoints.checkpoint import load_state, read_mmaction2, save_mmaction2
from networks.tsm import TSM
from vidom.errors import BadDataError, ExitCode, UsageError

META = {"epoch": 50, "config_name": "tsm_r50.py", "seed": None, "time": "Thu Jan 1 2021"}


def small(num_classes: int = 5) -> TSM:
    torch.manual_seed(num_classes)
    return TSM(depth=10, num_classes=num_classes, base_channels=8)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(small().state_dict())


@pytest.fixture
def checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    path = tmp_path / "tsm.pth"
    torch.save({"meta": META, "state_dict": OrderedDict(state)}, path)
    return path


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


def refusal(path: Path) -> str:
    with pytest.raises(BadDataError) as caught:
        read_mmaction2(path)
    assert caught.value.exit_code == ExitCode.BAD_DATA
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files written by mmaction2


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_either_layout_gives_back_every_tensor(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, protocol: int
) -> None:
    path = tmp_path / "tsm.pth"
    content = {"meta": META, "state_dict": OrderedDict(state), "optimizer": {"state": {0: torch.ones(3)}}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read = read_mmaction2(path)
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
    read = read_mmaction2(path).state_dict
    assert equal(read, {key: value.detach() for key, value in tensors.items()})
    assert all(read[key].dtype == tensors[key].dtype for key in tensors)


def test_a_plain_state_dict_with_the_keys_of_a_parallel_wrapper_is_read(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "bare.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    read = read_mmaction2(path)
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
    read = read_mmaction2(path)
    assert equal(read.state_dict, state)
    assert read.meta == META


def test_a_file_that_does_not_match_the_hash_in_its_name_gives_a_warning(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    read_mmaction2(checkpoint.rename(checkpoint.with_name(f"tsm_r50-{true}.pth")))
    assert capsys.readouterr().err == ""
    read_mmaction2(
        checkpoint.with_name(f"tsm_r50-{true}.pth").rename(checkpoint.with_name("tsm-0badf00d.pth"))
    )
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
    read = read_mmaction2(tmp_path / "one.pth")
    assert equal(read.state_dict, dict(network.state_dict()))
    assert read.meta == META
    assert torch.load(tmp_path / "one.pth", weights_only=True)["meta"] == META


# Hostile files


class Runs:
    """An object that pickles to a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (eval, "eval"), (exec, "exec"), (getattr, "getattr")]
)
def test_code_in_a_checkpoint_is_reported_and_not_run(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, protocol: int, function: Any, name: str
) -> None:
    trace, path = tmp_path / "trace", tmp_path / "tsm.pth"
    argument = f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w')"
    content = {"state_dict": state, "meta": Runs(function, argument)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    torch.load(path, weights_only=False) if function in (os.system, eval, exec) else trace.touch()
    assert trace.exists()
    trace.unlink()
    message = refusal(path)
    assert f".{name}`" in message
    assert "Nothing was executed" in message
    assert not trace.exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"(S'touch trace'\nios\nsystem\n.",
        b"cos\nsystem\n(S'touch trace'\ntR.",
        b"(cos\nsystem\nS'touch trace'\no.",
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x01a\x85R.",
        b"\x80\x02csubprocess\nPopen\n.",
        b"\x80\x02c__builtin__\n__import__\n.",
        b"\x80\x04\x8c\x09importlib\x8c\x0dimport_module\x93.",
    ],
)
def test_every_encoding_of_code_is_rejected(tmp_path: Path, attack: bytes) -> None:
    path = tmp_path / "attack.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    assert "no checkpoint needs" in refusal(path)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("missing operand", b"\x80\x02R."),
        ("missing mark", b"\x80\x02u."),
        ("unknown memo", b"\x80\x02h\x05."),
        ("odd dictionary", b"\x80\x02(K\x01d."),
        ("never ends", b"\x80\x02}"),
        ("unknown opcode", b"\xff."),
        ("extension", b"\x80\x02\x82\x01."),
        ("huge bytes", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"a."),
        ("huge bytearray", b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"a."),
        ("huge number", b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"a."),
        ("call of a text", b"\x80\x02X\x01\x00\x00\x00a)R."),
        ("name that is not a text", b"\x80\x04K\x01K\x02\x93."),
    ],
)
def test_a_malformed_pickle_is_rejected(tmp_path: Path, name: str, attack: bytes) -> None:
    path = tmp_path / f"{name}.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    "attack",
    [
        # A memo index of 2^31 - 1, for which Python's own reader allocates a table of 32 GB.
        b"\x80\x02}r\xff\xff\xff\x7f.",
        # A key of 200,000 nested tuples, whose hash overflows the interpreter's stack.
        b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
        # A list that contains itself.
        b"\x80\x02]q\x00h\x00a.",
    ],
)
def test_a_pickle_that_would_exhaust_memory_or_stack_does_not(tmp_path: Path, attack: bytes) -> None:
    path = tmp_path / "exhausting.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    assert "has no named weights" in refusal(path)


def test_a_pickle_of_too_many_operations_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.checkpoints.inert_pickle, "_MAX_OPERATIONS", 1000)
    path = tmp_path / "long.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"}0" * 1000 + b"}.")
    assert "more than 1000 operations" in refusal(path)


# Damaged and other files


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_rejected(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, kept: float
) -> None:
    path = tmp_path / "tsm.pth"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "download it again" in refusal(path).lower()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK", b"\x80", b"\x80\x02K\x01."])
def test_a_file_of_a_different_kind_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tsm.pth"
    path.write_bytes(content)
    assert "cannot be read" in refusal(path)


def test_a_changed_byte_in_a_storage_is_rejected(checkpoint: Path, state: dict[str, Tensor]) -> None:
    content = bytearray(checkpoint.read_bytes())
    place = content.find(state["cls_head.fc_cls.weight"].numpy().tobytes())
    content[place] ^= 1
    checkpoint.write_bytes(content)
    assert "CRC-32" in refusal(checkpoint)


def rewritten(
    path: Path, *, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize("change", [lambda content: content[:-4], lambda content: content + bytes(4)])
def test_a_storage_of_a_wrong_size_is_rejected(checkpoint: Path, change: Callable[[bytes], bytes]) -> None:
    rewritten(
        checkpoint, change=lambda name, content: change(content) if name.endswith("/data/0") else content
    )
    assert "backbone.conv1.conv.weight" in refusal(checkpoint)


def test_a_compressed_archive_is_rejected(checkpoint: Path) -> None:
    rewritten(checkpoint, change=lambda name, content: content, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(checkpoint)


def test_a_big_endian_archive_is_rejected(checkpoint: Path) -> None:
    rewritten(checkpoint, change=lambda name, content: b"big" if name.endswith("byteorder") else content)
    assert "big-endian" in refusal(checkpoint)


def test_a_missing_storage_is_rejected(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/data/3")}
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "has no storages ['3']" in refusal(checkpoint)


def test_overlapping_storages_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "overlapping.pth"
    torch.save({str(index): torch.zeros(10_000) for index in range(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if name[-1] not in "123" else b"")
        first = archive.getinfo("overlapping/data/0")
        for index in (1, 2, 3):
            other = archive.getinfo(f"overlapping/data/{index}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, field, getattr(first, field))
    assert path.stat().st_size < 2 * 40_000
    assert "overlap" in refusal(path)


def test_an_archive_with_members_before_its_start_is_rejected(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000] + whole[whole.rfind(b"PK\1\2") :])
    assert "cannot be read" in refusal(checkpoint)


def described(*, numel: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Return a pickle of {"a": tensor} with these properties of the tensor."""

    storage = object()

    class Describing(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if value is storage else None

    rebuild = Runs(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())
    stream = io.BytesIO()
    Describing(stream, 2).dump({"a": rebuild})
    return stream.getvalue()


@pytest.mark.parametrize(
    "claim",
    [
        {"numel": 4, "offset": 0, "shape": (5,), "strides": (1,)},
        {"numel": 4, "offset": 1, "shape": (4,), "strides": (1,)},
        {"numel": 4, "offset": 0, "shape": (2, 2), "strides": (3, 1)},
        {"numel": 4, "offset": -1, "shape": (2,), "strides": (1,)},
        {"numel": 4, "offset": 0, "shape": (2,), "strides": (-1,)},
        {"numel": 4, "offset": 0, "shape": (1 << 40,), "strides": (0,)},
        {"numel": 4, "offset": 0, "shape": (0, 1 << 62, 1 << 62), "strides": (1, 1, 1)},
        {"numel": 1 << 60, "offset": 0, "shape": (4,), "strides": (1,)},
        {"numel": -4, "offset": 0, "shape": (4,), "strides": (1,)},
    ],
)
def test_a_tensor_beyond_its_storage_is_rejected(tmp_path: Path, claim: dict[str, Any]) -> None:
    path = tmp_path / "claim.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described(**claim))
        archive.writestr("archive/data/0", np.arange(4, dtype="<f4").tobytes())
    assert "tensor a" in refusal(path)


def test_a_handwritten_tensor_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "claim.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described(numel=4, offset=1, shape=(2,), strides=(2,)))
        archive.writestr("archive/data/0", np.arange(4, dtype="<f4").tobytes())
    assert read_mmaction2(path).state_dict["a"].tolist() == [1, 3]


def test_any_damage_gives_an_error_or_the_same_tensors(checkpoint: Path, state: dict[str, Tensor]) -> None:
    whole = checkpoint.read_bytes()
    chooser = np.random.default_rng(0)
    # Damage the pickle and the directory; storages are protected by their CRC-32.
    places = np.concatenate([np.arange(20_000), np.arange(len(whole) - 8_000, len(whole))])
    for place in chooser.choice(places, 300):
        damaged = bytearray(whole)
        damaged[place] = chooser.integers(256)
        checkpoint.write_bytes(damaged)
        try:
            read = read_mmaction2(checkpoint)
        except BadDataError:
            continue
        assert equal(read.state_dict, state)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"state_dict": 3}, {"epoch": 3}, {1: 2}])
def test_a_file_without_weights_is_rejected(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "tsm.pth"
    torch.save(content, path)
    refusal(path)


def test_an_entry_that_is_not_a_tensor_is_reported(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "tsm.pth"
    torch.save({"state_dict": {**state, "backbone.config": np.float64(3)}}, path)
    assert "'backbone.config'" in refusal(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint file .*absent\.pth"):
        read_mmaction2(tmp_path / "absent.pth")


# Loading


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
