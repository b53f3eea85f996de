"""Damaged files of torch.save, and files of other kinds."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmaction2_files import Runs, equal, error_of
from torch import Tensor

from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError, UsageError


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_rejected(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, kept: float
) -> None:
    path = tmp_path / "tsm.pth"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "download it again" in error_of(path).lower()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"PK", b"\x80", b"\x80\x02K\x01."])
def test_a_file_of_a_different_kind_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tsm.pth"
    path.write_bytes(content)
    assert "cannot be read" in error_of(path)


def test_a_changed_byte_in_a_storage_is_rejected(checkpoint: Path, state: dict[str, Tensor]) -> None:
    content = bytearray(checkpoint.read_bytes())
    place = content.find(state["cls_head.fc_cls.weight"].numpy().tobytes())
    content[place] ^= 1
    checkpoint.write_bytes(content)
    assert "CRC-32" in error_of(checkpoint)


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
    assert "backbone.conv1.conv.weight" in error_of(checkpoint)


def test_a_compressed_archive_is_rejected(checkpoint: Path) -> None:
    rewritten(checkpoint, change=lambda name, content: content, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in error_of(checkpoint)


def test_a_big_endian_archive_is_rejected(checkpoint: Path) -> None:
    rewritten(checkpoint, change=lambda name, content: b"big" if name.endswith("byteorder") else content)
    assert "big-endian" in error_of(checkpoint)


def test_a_missing_storage_is_rejected(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/data/3")}
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "has no storages 3 " in error_of(checkpoint)


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
    assert "overlap" in error_of(path)


def test_an_archive_with_members_before_its_start_is_rejected(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000] + whole[whole.rfind(b"PK\1\2") :])
    assert "cannot be read" in error_of(checkpoint)


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
    assert "tensor a" in error_of(path)


def test_a_handwritten_tensor_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "claim.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described(numel=4, offset=1, shape=(2,), strides=(2,)))
        archive.writestr("archive/data/0", np.arange(4, dtype="<f4").tobytes())
    assert read_torch(path).state_dict["a"].tolist() == [1, 3]


@pytest.mark.slow
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
            read = read_torch(checkpoint)
        except BadDataError:
            continue
        assert equal(read.state_dict, state)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"state_dict": 3}, {"epoch": 3}, {1: 2}])
def test_a_file_without_weights_is_rejected(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "tsm.pth"
    torch.save(content, path)
    error_of(path)


def test_an_entry_that_is_not_a_tensor_is_reported(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "tsm.pth"
    torch.save({"state_dict": {**state, "backbone.config": np.float64(3)}}, path)
    assert "'backbone.config'" in error_of(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint file .*absent\.pth"):
        read_torch(tmp_path / "absent.pth")
