"""Paddle's checkpoint files: real ones give the values that Paddle wrote, hostile ones are rejected."""

from __future__ import annotations

import collections
import json
import os
import pickle
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle_fill import paddle_array, recorded_clips
from torch import Tensor, nn

from networks.checkpoints.checkpoint import Checkpoint, load_state
from networks.checkpoints.pdiparams import read_pdiparams
from networks.checkpoints.pdparams import read_pdparams
from networks.checkpoints.pptsm_weights import from_paddle, read_pptsm
from networks.pptsm import PPTSM, Backbone, Head
from vidom.errors import BadDataError, UsageError

NAME_TABLE = "StructuredToParameterName@@"
SHARED_FILES = [
    f"tiny_{maker}_{layout}.pdparams"
    for maker in ("p26np1", "p33np2")
    for layout in ("proto4", "proto2", "nested_tuple_layout", "fp16convs", "bf16fc")
    if (maker, layout) != ("p26np1", "bf16fc")
]


@pytest.fixture(scope="module")
def small_files(fixtures: Path) -> Path:
    """Files of a network of 12 tensors, written by Paddle 2.6.2 and 3.3.1."""
    return fixtures / "paddle" / "files"


@pytest.fixture(scope="module")
def truth(small_files: Path) -> dict[str, np.ndarray]:
    """The float32 values of those tensors."""
    with np.load(small_files / "truth.npz") as archive:
        return {key: archive[key] for key in archive.files}


def as_numpy_reads_it(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a trusted file, read by Python's own unpickler."""
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    content = content.get("state_dict", content)
    content.pop(NAME_TABLE, None)
    arrays = {key: value[1] if isinstance(value, tuple) else value for key, value in content.items()}
    tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
    return {
        key: (value.view(torch.bfloat16) if value.dtype == torch.uint16 else value).float()
        for key, value in tensors.items()
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[key].dtype == value.dtype and torch.equal(found[key], value) for key, value in expected.items()
    )


@pytest.mark.parametrize("name", SHARED_FILES)
def test_every_sample_file_gives_the_tensors_of_pythons_unpickler(shared: Path, name: str) -> None:
    path = shared / "fixtures" / "paddle" / "pdparams" / name
    read = read_pdparams(path)
    assert same(read.state_dict, as_numpy_reads_it(path))
    assert read.meta == ({"epoch": 3} if "nested" in name else {})
    for key, value in read.state_dict.items():
        expected = paddle_array(key, tuple(value.shape))
        # bfloat16 keeps 8 bits and float16 11; Paddle's cast may truncate instead of rounding.
        lost = {"bf16fc": 2**-7, "fp16convs": 2**-10}.get(name.split("_")[2].removesuffix(".pdparams"), 0)
        np.testing.assert_allclose(value.numpy(), expected, rtol=lost, atol=1e-7 if lost else 0, err_msg=key)


class Tiny(nn.Module):
    """The reduced network of the sample files: two stages, 16 channels in the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(blocks=(2, 1), base_channels=16, num_segments=8)
        self.head = Head(self.backbone.channels, num_classes=66, num_segments=8, dropout=0.5)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.backbone(frames))  # type: ignore[no-any-return]


def test_the_network_with_a_paddle_file_gives_paddles_outputs(fixtures: Path) -> None:
    network = Tiny().eval()
    read = read_pptsm(fixtures / "paddle" / "tiny_p26np1_proto4.pdparams")
    load_state(network, read.state_dict, source="the file")
    frames = torch.from_numpy(recorded_clips((1, 8, 3, 32, 32), kind="video")[0])
    with torch.inference_mode():
        logits = network(frames)[0].numpy()
    expected = np.array(json.loads((fixtures / "paddle" / "tiny_expected.json").read_text())["logits"])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "meta"),
    [
        ("tiny.pdparams", {}),
        ("tiny_paddle3.pdparams", {}),
        ("nested_proto2.pdparams", {"epoch": 7}),
        ("sliced_proto2.pdparams", {}),
        ("tiny.pdiparams", {}),
    ],
)
def test_every_layout_gives_the_values(
    small_files: Path, truth: dict[str, np.ndarray], name: str, meta: dict[str, Any]
) -> None:
    path = small_files / name
    read = (read_pdiparams if path.suffix == ".pdiparams" else read_pdparams)(path)
    assert read.meta == meta
    assert sorted(read.state_dict) == sorted(truth)
    for key, value in truth.items():
        np.testing.assert_array_equal(read.state_dict[key].numpy(), value, err_msg=key)


def test_halves_become_float32(small_files: Path, truth: dict[str, np.ndarray]) -> None:
    read = read_pdparams(small_files / "halves.pdparams")
    assert same(read.state_dict, as_numpy_reads_it(small_files / "halves.pdparams"))
    for key, value in truth.items():
        lost = 2**-10 if "_conv" in key else 2**-7 if key.startswith("fc") else 0
        found = read.state_dict[key].numpy()
        np.testing.assert_allclose(found, value, rtol=lost, atol=1e-7 if lost else 0, err_msg=key)


def test_column_major_arrays_and_scalars_are_read(tmp_path: Path) -> None:
    by_column = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    path = write(tmp_path, pickle.dumps({"a": by_column, "b": np.float64(2.5), "c": np.ones((0, 3))}, 4))
    read = read_pdparams(path).state_dict
    np.testing.assert_array_equal(read["a"], by_column)
    assert read["b"].item() == 2.5
    assert read["c"].shape == (0, 3)


def test_texts_of_python_2_are_bytes(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 255.0], "<f4")
    dtype = b"cnumpy\ndtype\n(U\2f4K\0K\1tRq\1(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR"
    state = b"(K\1(K\3t" + dtype + b"\x89U\x0c" + values.tobytes() + b"tb"
    path = write(tmp_path, b"\x80\x02}U\x01w" + array + state + b"s.")
    np.testing.assert_array_equal(read_pdparams(path).state_dict["w"], values)


@pytest.mark.parametrize("name", ["files/tiny.pdopt", "shared"])
def test_optimizer_state_is_detected(request: pytest.FixtureRequest, fixtures: Path, name: str) -> None:
    path = fixtures / "paddle" / name
    if name == "shared":
        path = request.getfixturevalue("shared") / "fixtures" / "paddle" / "pdparams" / "tiny_p33np2.pdopt"
    assert "state of an optimizer" in error_of(path)


def write(folder: Path, content: bytes, name: str = "model.pdparams") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def error_of(path: Path) -> str:
    reader = read_pdiparams if path.suffix == ".pdiparams" else read_pdparams
    tracemalloc.start()
    try:
        with pytest.raises(BadDataError) as caught:
            reader(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Half a million Python objects, and a few copies of the file's bytes.
    assert peak < 100e6 + 5 * path.stat().st_size
    assert str(path) in str(caught.value)
    return str(caught.value)


class Runs:
    """An object whose pickle makes its reader call something."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Runs(os.system, "touch ran"), f"{os.system.__module__}.system"),
        (Runs(eval, "open('ran', 'w')"), "builtins.eval"),
        (Runs(getattr, "", "join"), "builtins.getattr"),
        (Runs(bytearray, 5), "builtins.bytearray"),
        (Runs(collections.Counter, "a"), "collections.Counter"),
        (Runs(np.load, "ran"), "numpy"),
    ],
)
def test_any_name_but_those_of_arrays_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, call: Runs, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, pickle.dumps({"backbone.conv1_1._conv.weight": np.ones(3), "x": call}, protocol))
    assert f"refers to `{named}" in error_of(path)
    assert not (tmp_path / "ran").exists()


def with_content(content: Any) -> bytes:
    return pickle.dumps(content, protocol=4)


def array_of(dtype: Any, shape: Any, raw: bytes) -> Any:
    """Return an object that pickles as an array of that type, shape and content, which may not fit."""

    class Array:
        def __reduce__(self) -> Any:
            rebuild, arguments, state = np.zeros(1, np.float32).__reduce__()
            return rebuild, arguments, (state[0], shape, dtype, False, raw)

    return Array()


FLOAT = np.dtype("<f4")
HOSTILE = {
    "empty": b"",
    "text": b"weights",
    "zip": b"PK\3\4" + b"\0" * 100,
    "protocol 5": pickle.dumps({"a": np.ones(2)}, 5),
    "no weights": with_content({}),
    "a list": with_content([np.ones(2)]),
    "a table only": with_content({NAME_TABLE: {"a": "b"}}),
    "a number": with_content({"a": 3}),
    "a dictionary": with_content({"a": {"b": np.ones(2)}}),
    "state_dict of a different kind": with_content({"state_dict": [np.ones(2)]}),
    "a key that is not a name": with_content({3: np.ones(2)}),
    "objects": with_content({"a": np.array([None, 1], object)}),
    "texts": with_content({"a": np.array(["x"])}),
    "complex numbers": with_content({"a": np.ones(2, complex)}),
    "records": with_content({"a": np.ones(2, [("x", "f4")])}),
    "big-endian": with_content({"a": np.ones(2, ">f4")}),
    "too few bytes": with_content({"a": array_of(FLOAT, (4,), b"\0" * 12)}),
    "huge shape": with_content({"a": array_of(FLOAT, (2**62, 2**62), b"\0" * 12)}),
    "huge numbers": with_content({"a": array_of(FLOAT, (10**9000,), b"\0" * 12)}),
    "negative shape": with_content({"a": array_of(FLOAT, (-1, -3), b"\0" * 12)}),
    "many dimensions": with_content({"a": array_of(FLOAT, (1,) * 1000, b"\0" * 4)}),
    "a truth value for a size": with_content({"a": array_of(FLOAT, (True, 3), b"\0" * 12)}),
    "no shape": with_content({"a": array_of(FLOAT, None, b"\0" * 4)}),
    "no type": with_content({"a": array_of(None, (1,), b"\0" * 4)}),
    "no bytes": with_content({"a": array_of(FLOAT, (1,), None)}),  # type: ignore[arg-type]
    "characters that are not bytes": with_content({"a": array_of(FLOAT, (1,), "\u4e2d" * 4)}),  # type: ignore[arg-type]
    "shared bytes": with_content(dict.fromkeys(map(str, range(20_000)), np.ones(100_000, np.float16))),
    "a length of 2^62": b"\x80\x04}\x8c\x01a\x8e" + struct.pack("<Q", 2**62) + b"\0" * 50,
    "a text of 2^62": b"\x80\x04}\x8d" + struct.pack("<Q", 2**62) + b"\0" * 50,
    "a frame of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}\x8c\x01a",
    "a length of 2^31": b"\x80\x02}U\x01aX" + struct.pack("<I", 2**31 - 1) + b"\0" * 50,
    "a million entries": with_content({str(number): number for number in range(1_000_000)}),
    "equal hashes": b"\x80\x02}("
    + b"".join(
        b"\x8a\x0a" + (number * (2**61 - 1)).to_bytes(10, "little") + b"N" for number in range(100_000)
    )
    + b"u.",
    "nested tuples": b"\x80\x02}U\x01a)" + b"\x85" * 200_000 + b"s.",
    "nested lists": b"\x80\x02}U\x01a" + b"]" * 100_000 + b"a" * 99_999 + b"s.",
    "itself": b"\x80\x02}q\x00U\x01ah\x00s.",
    "an unknown operation": b"\x80\x02}\xff.",
    "an extension": b"\x80\x02\x82\x01.",
    "an empty stack": b"\x80\x02.",
    "slices that are not there": with_content(
        {"a": np.ones(2), "UnpackBigParamInfor@@": {"b": {"OriginShape": (2,), "slices": ["b@@.0"]}}}
    ),
    "slices of a different size": with_content(
        {"a": np.ones(2), "UnpackBigParamInfor@@": {"b": {"OriginShape": (2**40, 2**40), "slices": ["a"]}}}
    ),
    "slices of a truth value": with_content(
        {"a": np.ones(2), "UnpackBigParamInfor@@": {"b": {"OriginShape": (True, 2), "slices": ["a"]}}}
    ),
    "the same slice twice": with_content(
        {"a": np.ones(2), "UnpackBigParamInfor@@": {"b": {"OriginShape": (4,), "slices": ["a", "a"]}}}
    ),
    "slices without a plan": with_content({"a": np.ones(2), "UnpackBigParamInfor@@": {"b": 3}}),
    "slices in a list": with_content({"a": np.ones(2), "UnpackBigParamInfor@@": [1]}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("nested tuples", "a million entries") else ())
        for name in HOSTILE
    ],
)
def test_a_hostile_file_is_rejected(tmp_path: Path, name: str) -> None:
    error_of(write(tmp_path, HOSTILE[name]))


def test_a_file_truncated_anywhere_is_rejected(small_files: Path, tmp_path: Path) -> None:
    whole = (small_files / "tiny.pdparams").read_bytes()
    for length in range(0, len(whole), 61):
        error_of(write(tmp_path, whole[:length]))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for reader in (read_pdparams, read_pdiparams):
        with pytest.raises(UsageError, match="no checkpoint file"):
            reader(tmp_path / "absent.pdparams")


def test_a_different_class_count_is_reported_first() -> None:
    network = PPTSM(depth=50, num_classes=5, base_channels=4)
    other = PPTSM(depth=50, num_classes=9, base_channels=4)
    with pytest.raises(BadDataError, match="has 9 classes, the recipe has 5"):
        load_state(network, other.state_dict(), source="the file")


def test_a_partial_load_is_rejected_with_a_table(fixtures: Path) -> None:
    read = read_pdparams(fixtures / "paddle" / "tiny_p26np1_proto4.pdparams")
    network = PPTSM(depth=50, num_classes=66, base_channels=16)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(BadDataError, match="keys missing: 205, unexpected: 0") as caught:
        load_state(network, from_paddle(read.state_dict), source="the file")
    assert "backbone.bb_0_2.conv0._conv.weight" in str(caught.value)
    assert same(network.state_dict(), before)


@pytest.mark.parametrize("key", ["k" * 10_000_000, "\x1b[2J", "a\nb"])
def test_an_unprintable_key_is_rejected(tmp_path: Path, key: str) -> None:
    message = error_of(write(tmp_path, with_content({key: np.ones(2)})))
    assert len(message) < 1000
    assert key not in message


def exported(small_files: Path, folder: Path) -> Path:
    for name in ("tiny.pdiparams", "tiny.pdiparams.info"):
        shutil.copy(small_files / name, folder / name)
    return folder / "tiny.pdiparams"


def test_exported_tensors_need_their_table(small_files: Path, tmp_path: Path) -> None:
    path = exported(small_files, tmp_path)
    (tmp_path / "tiny.pdiparams.info").unlink()
    with pytest.raises(UsageError, match=r"tiny\.pdiparams\.info"):
        read_pdiparams(path)


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"text",
        with_content({}),
        with_content({"a": {"structured_name": "b"}}),
        with_content({"a": "b"}),
        with_content({str(number): {"structured_name": "same"} for number in range(12)}),
        with_content({str(number): {"structured_name": str(number)} for number in range(13)}),
        with_content(Runs(os.system, "touch ran")),
    ],
)
def test_an_invalid_table_is_rejected(small_files: Path, tmp_path: Path, table: bytes) -> None:
    path = exported(small_files, tmp_path)
    (tmp_path / "tiny.pdiparams.info").write_bytes(table)
    error_of(path)


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (0, b"\1"),
        (4, b"\1"),
        (12, b"\1"),
        (16, b"\xff\xff\xff\x7f"),
        (16, b"\xff\xff\xff\xff"),
        (20, b"\0"),
        (21, b"\x63"),
        (22, b"\x12"),
        (23, b"\x7f"),
        (23, b"\xff"),
    ],
)
def test_a_damaged_export_is_rejected(small_files: Path, tmp_path: Path, place: int, content: bytes) -> None:
    path = exported(small_files, tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[place : place + len(content)] = content
    path.write_bytes(damaged)
    error_of(path)


def test_an_export_that_is_truncated_or_too_long_is_rejected(small_files: Path, tmp_path: Path) -> None:
    path = exported(small_files, tmp_path)
    whole = path.read_bytes()
    for content in (b"", *(whole[:length] for length in range(1, len(whole), 97)), whole + b"\0"):
        path.write_bytes(content)
        error_of(path)


def edited(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Return `whole` after edits, each replacing `removed` bytes at a place (modulo the length) by others."""
    content = bytearray(whole)
    for place, removed, inserted in edits:
        start = place % (len(content) + 1)
        content[start : start + removed] = inserted
    return bytes(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["tiny.pdparams", "sliced_proto2.pdparams", "halves.pdparams", "tiny.pdiparams"]),
    edits=st.lists(
        st.tuples(
            # Many of Paddle's own names and operations are in the first few hundred bytes.
            st.integers(0, 600) | st.integers(0, 10_000),
            st.integers(0, 4),
            st.binary(max_size=9)
            | st.sampled_from([b"\x8e" + b"\xff" * 7 + b"\x3f", b"cos\nsystem\n", b"R", b"."]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_any_damage_gives_an_error_or_tensors(
    small_files: Path, tmp_path: Path, name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    path = write(tmp_path, edited((small_files / name).read_bytes(), edits), name)
    if path.suffix == ".pdiparams":
        shutil.copy(small_files / f"{name}.info", tmp_path / f"{name}.info")
    try:
        read = read_pptsm(path)
    except BadDataError:
        return
    assert isinstance(read, Checkpoint)
    size = sum(value.numel() * value.element_size() for value in read.state_dict.values())
    # float16 grows to twice its size.
    assert size <= 2 * path.stat().st_size
