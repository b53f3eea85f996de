"""Reading video2pkl.py's packs, from both Python versions and from hostile sources."""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from preprocess.sources.frame_pack import FramePack, read_frame_pack, read_pack_label
from vidom.errors import BadDataError


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], Path]:
    def store(content: bytes) -> Path:
        path = tmp_path / "video.pkl"
        path.write_bytes(content)
        return path

    return store


def jpeg(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (shade, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


def test_packs_of_python_2_and_3_are_equal(fixtures: Path, shared: Path) -> None:
    theirs = read_frame_pack(shared / "data/stnet/pkl_py2_tiny003frame.pkl")
    ours = read_frame_pack(fixtures / "mindspore" / "tiny003frame_000004_000014.pkl")
    assert theirs == ours
    assert read_pack_label(shared / "data/stnet/pkl_py2_tiny003frame.pkl") == ours.label == 5


@pytest.mark.parametrize("frames", [[jpeg()], [jpeg(shade) for shade in range(300)], [jpeg(), b"", jpeg()]])
@pytest.mark.parametrize("label", [0, 399, 70_000])
def test_packs_are_read_as_pickle_reads_them(
    stored: Callable[[bytes], Path], frames: list[bytes], label: int
) -> None:
    path = stored(pickle.dumps(("./clip", label, frames), protocol=2))
    assert read_frame_pack(path) == FramePack("./clip", label, tuple(frames))
    assert read_pack_label(path) == label


def test_the_error_of_a_pack_without_frames_explains_the_cause(stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(BadDataError, match="if ffmpeg fails"):
        read_frame_pack(stored(pickle.dumps(("./clip", 3, []), protocol=2)))


class Command:
    """An object whose pickle runs a command."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self.call = target, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def pickled(value: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol=protocol)


TEXT = b"X\x03\x00\x00\x00abc"
# A string of a megabyte, encoded repeatedly from the memo.
BOMB = (
    b"\x80\x02X\x01\x00\x00\x00vq\x00K\x01](c_codecs\nencode\nq\x01X\x00\x00\x10\x00" + b"a" * (1 << 20)
) + (b"q\x02X\x06\x00\x00\x00latin1q\x03\x86R" + b"h\x01h\x02h\x03\x86R" * 20_000 + b"e\x87.")
HOSTILE = {
    "a command": pickled(("v", 1, [Command(os.system, "touch pwned")])),
    "eval": pickled(Command(eval, "open('pwned', 'w')")),
    "a different encoding": pickled(("v", 1, [jpeg()])).replace(b"latin1", b"utf-16"),
    "a different codec function": pickled(("v", 1, [jpeg()])).replace(b"_codecs\nencode", b"_codecs\ndecode"),
    "protocol 4": pickled(("v", 1, [jpeg()]), protocol=4),
    "frames as numbers": pickled(("v", 1, [1, 2])),
    "a negative label": pickled(("v", -1, [jpeg()])),
    "label and frames only": pickled((1, [jpeg()])),
    "not a pickle": b"RIFF" + bytes(100),
    "nothing": b"",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xff" + b"a" * 100,
    "a call without arguments": b"\x80\x02c_codecs\nencode\nR.",
    "a memo that was never kept": b"\x80\x02h\x05.",
    "items without a mark": b"\x80\x02]" + TEXT + b"e.",
    "a million opcodes": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "the same bytes over and over": BOMB,
    "truncated": pickled(("v", 1, [jpeg()]))[:-40],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packs_are_rejected_and_run_nothing(
    stored: Callable[[bytes], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(HOSTILE[name])
    monkeypatch.chdir(path.parent)
    with pytest.raises(BadDataError, match=r"video\.pkl"):
        read_frame_pack(path)
    assert list(path.parent.iterdir()) == [path]


def test_damaged_packs_are_read_or_rejected(stored: Callable[[bytes], Path]) -> None:
    intact = pickled(("./clip", 7, [b"\xff\xd8" + bytes(20), b"\xff\xd8" + bytes(range(40))]))
    generator, rejected = random.Random(0), 0
    for _ in range(500):
        content = bytearray(intact)
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        try:
            read_frame_pack(stored(bytes(content)))
        except BadDataError:
            rejected += 1
    assert 100 < rejected < 500
