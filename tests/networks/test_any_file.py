"""Formats of checkpoint files, detected from their bytes: files of every layout, other and damaged ones."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mindspore_bytes import checkpoint as ckpt_bytes
from mindspore_bytes import mindir, parameter
from torch import nn

from networks.checkpoints.any_file import read_any
from vidom.errors import BadDataError, UsageError


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
    assert found.state_dict


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
