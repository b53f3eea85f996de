"""Weights under the keys and prefixes of different training programs, and in safetensors."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmaction2_files import equal, error_of
from torch import Tensor, nn

from networks.checkpoints.any_file import read_any
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError

State = dict[str, Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def averages(state: State) -> State:
    """Return different tensors under the keys of `state`."""
    return {key: value + 1 for key, value in state.items()}


def mmcv_averages(state: State) -> State:
    return {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state.items()}


@pytest.mark.parametrize(
    ("saved", "framework", "notes"),
    [
        (lambda s: s, "torch", ""),
        (lambda s: {"meta": {}, "state_dict": s}, "mmaction2", ""),
        (lambda s: {"epoch": 3, "model": s, "best": 0.5}, "torch", "under 'model'"),
        (lambda s: {"model_state_dict": s, "loss": torch.ones(())}, "torch", "under 'model_state_dict'"),
        (lambda s: {"state_dict_ema": s, "arch": "x"}, "torch", "under 'state_dict_ema'"),
        (lambda s: {"module": prefixed(s, "net.")}, "torch", "under 'module'.*prefix 'net.'"),
        (lambda s: {"checkpoint": {"model": s}}, "torch", "under 'checkpoint.model'"),
        (lambda s: {"model": s, "model_ema": averages(s)}, "torch", "'model', not those under 'model_ema'"),
        (
            lambda s: {"meta": {}, "state_dict": s, "ema_state_dict": averages(s)},
            "mmaction2",
            "not those under 'ema_state_dict'",
        ),
        (
            lambda s: {"state_dict": prefixed(s, "model."), "callbacks": {"a": {"b": torch.ones(2)}}},
            "torch",
            "'model.'",
        ),
        (lambda s: prefixed(s, "module._orig_mod.model."), "torch", "prefix 'module._orig_mod.model.'"),
        (
            lambda s: {**prefixed(s, "model."), **prefixed(averages(s), "ema_model.module.")},
            "torch",
            "averages such as ema_model.module.backbone",
        ),
        (
            lambda s: {
                **s,
                "model_ema.decay": torch.ones(()),
                "model_ema.backboneconv1convweight": torch.ones(2),
            },
            "torch",
            "2 averages such as model_ema.decay left out",
        ),
        (lambda s: prefixed(s, "ema_model."), "torch", "prefix 'ema_model.' removed"),
        (lambda s: {"meta": {}, "state_dict": {**s, **mmcv_averages(s)}}, "mmaction2", "ema_.* left out"),
        (
            lambda s: {"meta": {}, "state_dict": prefixed({**s, **mmcv_averages(s)}, "module.")},
            "mmaction2",
            "left out",
        ),
        (
            lambda s: {
                key.removeprefix("backbone.").removeprefix("cls_head."): value for key, value in s.items()
            },
            "torch",
            "'backbone.' added",
        ),
        (lambda s: {**s, "data_preprocessor.mean": torch.ones(3)}, "torch", ""),
    ],
)
def test_weights_are_found_wherever_they_are(
    tmp_path: Path, state: State, saved: Callable[[State], Any], framework: str, notes: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(saved(state), path)
    found = read_any(path)
    assert equal(found.state_dict, state)
    assert found.framework == framework
    assert (notes == "") == (found.notes == ())
    assert re.search(notes, "; ".join(found.notes))


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (
            lambda s: {"generator": s, "discriminator": s.copy()},
            "several sets of weights.*'generator', 'discriminator'",
        ),
        (
            lambda s: {**prefixed(s, "student."), **prefixed(s, "teacher.")},
            "several networks.*'student.', 'teacher.'",
        ),
        (
            lambda s: {"model": nn.Identity(), "epoch": 3},
            r"'model' \(an object of torch.nn.modules.linear.Identity\)",
        ),
        (lambda s: nn.Identity(), "found an object of torch.nn.modules.linear.Identity"),
        (
            lambda s: {"optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": []}},
            "of an optimizer",
        ),
        (lambda s: {"model": {**s, "step": 3}}, "entry 'step' should be a dense tensor, but is int"),
    ],
)
def test_what_is_ambiguous_or_absent_is_named(
    tmp_path: Path, state: State, saved: Callable[[State], Any], words: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(saved(state), path)
    with pytest.raises(BadDataError, match=words):
        read_any(path)
    assert len(error_of(path)) < 1000


def test_dictionaries_that_refer_to_each_other_are_visited_once(tmp_path: Path) -> None:
    inner: dict[str, Any] = {f"a{number}": 0 for number in range(3000)}
    outer = dict.fromkeys((f"b{number}" for number in range(3000)), inner)
    cycle: dict[str, Any] = dict.fromkeys((f"c{number}" for number in range(3000)), outer)
    cycle["itself"] = cycle
    torch.save(cycle, tmp_path / "cycle.pth")
    assert "no named weights" in error_of(tmp_path / "cycle.pth")


def test_the_name_of_a_place_does_not_control_the_terminal(tmp_path: Path, state: State) -> None:
    torch.save({"mo\x1b[2Jdel": state}, tmp_path / "a.pth")
    found = read_any(tmp_path / "a.pth")
    assert equal(found.state_dict, state)
    assert (found.layout + found.notes[0]).isprintable()


def test_long_keys_take_no_long_time(tmp_path: Path) -> None:
    # Removing a wrapper at a time, or joining the parts of places, copies each of these keys very often.
    path = tmp_path / "long.pth"
    torch.save({"module." * 200_000 + "weight": torch.ones(2)}, path)
    assert read_torch(path).state_dict
    torch.save({"a" * 1_000_000: {f"b{number}": {} for number in range(50_000)}}, path)
    assert "no named weights" in error_of(path)


def safetensors(tensors: State, **changed: Any) -> bytes:
    names = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16", torch.float16: "F16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for key, tensor in tensors.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        place = [len(body), len(body) + len(raw)]
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        body += raw
    text = json.dumps({**header, **changed}).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors_give_back_every_tensor(tmp_path: Path, state: State) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(safetensors(prefixed(state, "model.")))
    found = read_any(path)
    assert equal(found.state_dict, state)
    assert (found.framework, found.meta) == ("torch", {"format": "pt"})
    assert found.layout == f"safetensors, {len(state)} tensors"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_safetensors_is_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(-4, 4, 0.25).to(dtype).reshape(4, 8)
    (tmp_path / "a.safetensors").write_bytes(safetensors({"w": values}))
    assert torch.equal(read_torch(tmp_path / "a.safetensors").state_dict["w"].float(), values.float())


def test_safetensors_of_mindspore_have_its_names(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"temp1.bn1.bn2d.gamma": torch.ones(4), "fc.bias": torch.ones(2)}))
    found = read_any(path)
    assert found.framework == "mindspore"
    assert list(found.state_dict) == ["temp1.bn1.weight", "fc.bias"]


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "dtype": "F8_E4M3"},
        {**ENTRY, "dtype": ["F32"]},
        {**ENTRY, "shape": [True, 2]},
        {**ENTRY, "shape": [2.0]},
        {**ENTRY, "shape": [-2]},
        {**ENTRY, "shape": [3]},
        {**ENTRY, "shape": [0, 1 << 61]},
        {**ENTRY, "shape": [1] * 1000},
        {**ENTRY, "data_offsets": [0, 1 << 70]},
        {**ENTRY, "data_offsets": [8, 0]},
        {**ENTRY, "data_offsets": [-8, 8]},
        {**ENTRY, "data_offsets": [4, 8]},
        {**ENTRY, "data_offsets": [0, 4], "shape": [1]},
        {**ENTRY, "data_offsets": 3},
        [],
        "text\x1b[2J",
    ],
)
def test_damaged_safetensors_are_rejected(tmp_path: Path, entry: Any) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"w\x1b[2J": torch.ones(2)}, **{"w\x1b[2J": entry}))
    message = error_of(path)
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 63) + b'{"a": 1}',
        struct.pack("<Q", 10_003) + b'{"' + b"9" * 10_000 + b'": ' + b"9" * 5000,
        struct.pack("<Q", 5006) + b'{"a":' + b"9" * 5000 + b"}",
        struct.pack("<Q", 100_005) + b'{"a":' + b"[" * 100_000,
        struct.pack("<Q", 8) + b'{"a\xff": 1}',
        struct.pack("<Q", 23) + b'{"__metadata__": "text"}',
        safetensors({"w": torch.ones(2)})[:-1],
        safetensors({"w": torch.ones(2)}) + b"\0",
        safetensors({}, **{f"w{number}": ENTRY for number in range(20_001)}),
    ],
)
def test_a_damaged_header_of_safetensors_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert "starts like safetensors" in error_of(tmp_path / "a.safetensors")
