"""Hostile pickles in checkpoints: code is never run, and memory and time are bounded."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from mmaction2_files import Runs, error_of
from torch import Tensor

import networks.checkpoints.pickles.inert_pickle


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
    message = error_of(path)
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
    assert "no checkpoint needs" in error_of(path)


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
    assert "cannot be read" in error_of(path)


@pytest.mark.slow
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
    assert "has no named weights" in error_of(path)


def test_a_pickle_of_too_many_operations_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.checkpoints.pickles.inert_pickle, "_MAX_OPERATIONS", 1000)
    path = tmp_path / "long.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"}0" * 1000 + b"}.")
    assert "more than 1000 operations" in error_of(path)
