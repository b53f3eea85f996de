"""Videos packed by Paddle's and MindSpore's `video2pkl.py`: a pickle of name, label and JPEG files.

The pickle is (video name, label, [bytes of frame 1, bytes of frame 2, ...]) of protocol 2, written by Python 2
or 3. It is interpreted as data: the few opcodes that such a file consists of are executed here, any other opcode
is rejected, and nothing is imported or called.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from preprocess.sources.image_files import Image, decode_with_pillow
from vidom.errors import BadDataError

__all__ = ["FramePack", "PackedFrames", "read_frame_pack", "read_pack_label"]

# Eight opcodes per frame: enough for a quarter of an hour of video.
_MAX_OPCODES = 200_000
_MAX_BYTES = 1 << 30
_LITERALS = ("BINUNICODE", "BININT", "BININT1", "BININT2")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A global name in a pack; it is compared, never looked up."""

    text: str


# Protocol 2 has no bytes: Python 3 writes them as a string and its encoding, and empty ones as a call of bytes().
_ENCODE, _NO_BYTES = _Name("_codecs encode"), _Name("__builtin__ bytes")


@dataclass(frozen=True)
class FramePack:
    """One packed video; `frames` are complete JPEG files."""

    name: str
    label: int
    frames: tuple[bytes, ...]


class PackedFrames:
    """The frames of the pack at `path` as a FrameSource; they count from 0 and are decoded with Pillow."""

    first_index = 0

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def total_frames(self) -> int:
        """The number of packed frames."""
        return len(self.pack.frames)

    @cached_property
    def pack(self) -> FramePack:
        """The content of the file; raises BadDataError as `read_frame_pack` does."""
        return read_frame_pack(self.path)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions; raises BadDataError for a frame that is damaged."""
        for position in positions:
            yield decode_with_pillow(self.pack.frames[position], name=f"{position} of {self.path}")


def read_frame_pack(path: Path) -> FramePack:
    """Return the video packed in the file at `path`.

    Peak memory is twice the size of the file. Raises BadDataError if it is absent, too large, truncated or not such a
    pickle, and if it holds no frames: `video2pkl.py` silently writes an empty pack if ffmpeg fails, for example on
    a path with a space.
    """
    machine = _run(path, _MAX_OPCODES)
    match machine.stack:
        case [(str() | bytes() as name, int(label), list(frames))] if label >= 0:
            pass
        case _:
            raise _rejection(path, "it does not hold (name, label, frames)")
    if not frames:
        raise BadDataError(
            f"The pack {path} holds no frames. video2pkl.py writes such a file if ffmpeg fails, for example "
            "on a path with a space. Pack this video again, or remove it from the list."
        )
    if not all(isinstance(frame, bytes) for frame in frames):
        raise _rejection(path, "its frames are not bytes")
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return FramePack(name=text, label=label, frames=tuple(frames))


def read_pack_label(path: Path) -> int:
    """Return the label of the pack at `path` without reading its frames; raises BadDataError as `read_frame_pack`."""
    # PROTO, name, at most one memo of it, label.
    machine = _run(path, 4)
    label = next((value for value in machine.stack if isinstance(value, int)), -1)
    if label < 0:
        raise _rejection(path, "its second item is not a label")
    return label


def _run(path: Path, limit: int) -> _Machine:
    if not path.is_file():
        raise BadDataError(f"The pack {path} does not exist. Check --data_root and the list.")
    size = path.stat().st_size
    if not 0 < size <= _MAX_BYTES:
        raise _rejection(path, f"it has {size} bytes; 1 to {_MAX_BYTES} are supported")
    machine = _Machine(budget=size)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        try:
            for opcode, argument, _ in islice(pickletools.genops(view), limit):  # type: ignore[arg-type]
                machine.step(opcode.name, argument)
        except (ValueError, LookupError) as error:
            raise _rejection(path, str(error)[:200]) from None
    if limit == _MAX_OPCODES and not machine.stopped:
        raise _rejection(path, f"it has more than {limit} opcodes")
    return machine


class _Machine:
    """The stack and memo of the pickle interpreter; `budget` limits the total bytes decoded from strings."""

    def __init__(self, *, budget: int) -> None:
        self.stack: list[Any] = []
        self.stopped = False
        self._memo: dict[int, Any] = {}
        self._budget = budget

    def step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO":
                pass
            case "STOP":
                self.stopped = True
            case "MARK":
                self.stack.append(_MARK)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self._memo[argument])
            case "GLOBAL":
                self.stack.append(_named(argument))
            case "REDUCE":
                arguments, target = self.stack.pop(), self.stack.pop()
                self.stack.append(self._bytes(target, arguments))
            case "BINSTRING" | "SHORT_BINSTRING":
                # A byte string of Python 2 is returned by pickletools as a str with one character per byte.
                self.stack.append(argument.encode("latin-1"))
            case _ if name in _LITERALS:
                self.stack.append(argument)
            case _:
                self._container(name)

    def _container(self, name: str) -> None:
        match name:
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_TUPLE" | "TUPLE2" | "TUPLE3":
                count = 0 if name == "EMPTY_TUPLE" else int(name[-1])
                self.stack.append(tuple([self.stack.pop() for _ in range(count)][::-1]))
            case "APPEND" | "APPENDS":
                self._append([self.stack.pop()] if name == "APPEND" else self._marked())
            case _:
                raise ValueError(f"the opcode {name}, which packs of frames do not contain")

    def _marked(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _append(self, items: list[Any]) -> None:
        if not self.stack or not isinstance(self.stack[-1], list):
            raise ValueError("items without a list")
        self.stack[-1].extend(items)

    def _bytes(self, target: Any, arguments: Any) -> bytes:
        if target is _NO_BYTES and arguments == ():
            return b""
        match arguments:
            case (str(text), "latin1") if target is _ENCODE:
                # A string may be fetched from the memo many times, and each time its bytes are allocated again.
                self._budget -= len(text)
                if self._budget >= 0:
                    return text.encode("latin-1")
        raise ValueError("a call other than the encoding of bytes")


def _named(name: str) -> _Name:
    for known in (_ENCODE, _NO_BYTES):
        if name == known.text:
            return known
    raise ValueError(f"the name {name[:80]!r}; unpickling it could run code (nothing was run here)")


def _rejection(path: Path, reason: str) -> BadDataError:
    return BadDataError(
        f"The pack {path} cannot be read: {reason}. Expected a pickle of (name, label, JPEG frames) as video2pkl.py "
        "writes it. Pack this video again, or remove it from the list."
    )
