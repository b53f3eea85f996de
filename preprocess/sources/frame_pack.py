"""Videos as Paddle's and MindSpore's `video2pkl.py` pack them: a pickle of name, label and JPEG files.

The pickle is (video name, label, [bytes of frame 1, bytes of frame 2, ...]) of protocol 2, written by Python 2
or 3. It is read here as data: the few operations that such a file consists of are carried out, every other one
is refused, and nothing is imported or called.
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

from preprocess.tensors.pillow_pixels import decode_with_pillow
from preprocess.tensors.pixels import Image
from vidom.errors import BadDataError

__all__ = ["FramePack", "PackedFrames", "read_frame_pack", "read_pack_label"]

# Eight operations a frame: a quarter of an hour of video.
_MAX_OPERATIONS = 200_000
_MAX_BYTES = 1 << 30
_LITERALS = ("BINUNICODE", "BININT", "BININT1", "BININT2")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A name in a pack; it is compared, never looked up."""

    text: str


# Python 3 writes bytes, which protocol 2 lacks, as a text and how to encode it; no bytes at all as bytes().
_ENCODE, _NO_BYTES = _Name("_codecs encode"), _Name("__builtin__ bytes")


@dataclass(frozen=True)
class FramePack:
    """One packed video; `frames` are whole JPEG files."""

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
        """How many frames are packed."""
        return len(self.pack.frames)

    @cached_property
    def pack(self) -> FramePack:
        """What the file holds; raises BadDataError as `read_frame_pack` does."""
        return read_frame_pack(self.path)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions; raises BadDataError for a frame that is damaged."""
        for position in positions:
            yield decode_with_pillow(self.pack.frames[position], name=f"{position} of {self.path}")


def read_frame_pack(path: Path) -> FramePack:
    """Return the video packed in the file at `path`.

    Memory is that of the file, twice. Raises BadDataError when it is absent, too large, no such pickle or cut short,
    and when it holds no frames: `video2pkl.py` writes an empty pack without a word where ffmpeg failed, as it
    does for paths with a space.
    """
    machine = _run(path, _MAX_OPERATIONS)
    match machine.stack:
        case [(str() | bytes() as name, int(label), list(frames))] if label >= 0:
            pass
        case _:
            raise _refusal(path, "it does not hold (name, label, frames)")
    if not frames:
        raise BadDataError(
            f"The pack {path} holds no frames. video2pkl.py writes such a file where ffmpeg failed, for instance "
            "on a path with a space in it. Pack this video again, or take it out of the list."
        )
    if not all(isinstance(frame, bytes) for frame in frames):
        raise _refusal(path, "its frames are not bytes")
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return FramePack(name=text, label=label, frames=tuple(frames))


def read_pack_label(path: Path) -> int:
    """Return the label of the pack at `path`, of which no frame is read; raises BadDataError as `read_frame_pack`."""
    # PROTO, name, at most one memo of it, label.
    machine = _run(path, 4)
    label = next((value for value in machine.stack if isinstance(value, int)), -1)
    if label < 0:
        raise _refusal(path, "its second part is no label")
    return label


def _run(path: Path, limit: int) -> _Machine:
    if not path.is_file():
        raise BadDataError(f"The pack {path} does not exist. Check --data_root and the list.")
    size = path.stat().st_size
    if not 0 < size <= _MAX_BYTES:
        raise _refusal(path, f"it has {size} bytes, where 1 to {_MAX_BYTES} are read")
    machine = _Machine(budget=size)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        try:
            for operation, argument, _ in islice(pickletools.genops(view), limit):  # type: ignore[arg-type]
                machine.step(operation.name, argument)
        except (ValueError, LookupError) as error:
            raise _refusal(path, str(error)[:200]) from None
    if limit == _MAX_OPERATIONS and not machine.stopped:
        raise _refusal(path, f"it takes more than {limit} operations")
    return machine


class _Machine:
    """The stack and the memo of a pack that is being read; `budget` bounds the bytes that its texts become."""

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
                # What Python 2 wrote as a string of bytes, pickletools shows as a text of as many characters.
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
                raise ValueError(f"the operation {name}, which no pack of frames has")

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
                # A text may be fetched from the memo again and again; its bytes would be made anew each time.
                self._budget -= len(text)
                if self._budget >= 0:
                    return text.encode("latin-1")
        raise ValueError("a call that gives no bytes of this file")


def _named(name: str) -> _Name:
    for known in (_ENCODE, _NO_BYTES):
        if name == known.text:
            return known
    raise ValueError(
        f"the name {name[:80]!r}; a reader that obeys it could run code, and nothing was run here"
    )


def _refusal(path: Path, reason: str) -> BadDataError:
    return BadDataError(
        f"The pack {path} cannot be read: {reason}. Expected a pickle of (name, label, JPEG frames) as video2pkl.py "
        "writes it. Pack this video again, or take it out of the list."
    )
