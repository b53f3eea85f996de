"""Read checkpoints of any framework, with the format detected from a file's first bytes, not from its name."""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from networks.checkpoints.checkpoint import Checkpoint, read_mmaction2
from networks.checkpoints.mindir import is_mindir
from networks.checkpoints.mindspore_file import open_mapped
from networks.checkpoints.mindspore_weights import read_mindspore
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.pdiparams import read_pdiparams
from networks.checkpoints.pptsm_weights import from_paddle, read_pptsm
from networks.checkpoints.protobuf_wire import fields, grouped, text_in
from networks.checkpoints.torch_file import read_torch_file
from vidom.errors import BadDataError

__all__ = ["AnyCheckpoint", "Framework", "read_any"]

Framework = str
"""As in a recipe's checkpoint.framework: mmaction2, paddle or mindspore."""

_HEAD_BYTES = 64
# The number that files of torch.save started with before 1.6, as encoded in a pickle.
_TORCH_LEGACY = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_ENCRYPTED = tuple(number.to_bytes(4, "little") for number in (0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA))
_PDIPARAMS = bytes(16)
_OTHER_FORMATS = {
    b"<": "is a web page: the download returned a message instead of the file",
    b"\x1f\x8b": "is a gzip archive: unpack it and use the checkpoint inside",
    b"BZh": "is a bzip2 archive: unpack it and use the checkpoint inside",
    b"\xfd7zXZ": "is an xz archive: unpack it and use the checkpoint inside",
    b"\x08": "may be an ONNX model: use the checkpoint that it was exported from",
    b"IMOD": "is an offline model of ATC: use the checkpoint that it was built from",
    b"\x89HDF": "is an HDF5 file, which none of the supported frameworks writes",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself with git lfs pull",
}
_OPTIMIZER_KEYS = {"param_groups", "optimizer"}
_TEXTS_SHOWN = 100
_TABLE, _SLICES = "StructuredToParameterName@@", "UnpackBigParamInfor@@"


@dataclass(frozen=True)
class AnyCheckpoint:
    """The contents of a checkpoint file under the keys of the networks, and its framework and layout.

    `layout` is a text such as "zip of torch.save, mmaction2's dictionary".
    """

    framework: Framework
    layout: str
    checkpoint: Checkpoint


def read_any(path: Path | str) -> AnyCheckpoint:
    """Return the weights of the checkpoint at `path`, of any supported framework; nothing in it is executed.

    Raises UsageError when there is no such file; BadDataError when its format is unknown, and as `read_mmaction2`,
    `read_pptsm` and `read_mindspore` do.
    """
    path = checkpoint_file(path)
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    framework, read, layout = _format(path, head)
    checkpoint = read(path)
    if not checkpoint.state_dict:
        others = ", ".join(checkpoint.meta)[:_TEXTS_SHOWN] or "nothing else"
        raise BadDataError(
            f"The checkpoint {path} of {framework} has no weights of a network, only those of an optimizer or counters "
            f"({others}). Use the file of the model."
        )
    return AnyCheckpoint(framework, layout(path), checkpoint)


def _format(path: Path, head: bytes) -> tuple[Framework, Callable[[Path], Checkpoint], Callable[[Path], str]]:
    if head.startswith(b"PK\3\4") or (head[:1] == b"\x80" and _TORCH_LEGACY in head):
        return "mmaction2", _read_torch, _torch_layout
    if head[:1] == b"\x80":
        return "paddle", read_pptsm, _pdparams_layout
    if head.startswith(_PDIPARAMS):
        return "paddle", _read_pdiparams, _pdiparams_layout
    if head.startswith((b"\n", *_ENCRYPTED)) or head[8:10] == b'{"':
        return "mindspore", read_mindspore, _mindspore_layout
    known = (text for start, text in _OTHER_FORMATS.items() if head.startswith(start))
    what = next(known, f"starts with {head[:8].hex(' ')}" if head else "is empty")
    raise BadDataError(
        f"The file {path} is not a supported checkpoint: it {what}. Expected a .pth of mmaction2 (a zip archive or a "
        "pickle of torch.save), a .pdparams or .pdiparams of Paddle, or a .ckpt or .mindir of MindSpore."
    )


def _read_torch(path: Path) -> Checkpoint:
    content = read_torch_file(path).content
    if isinstance(content, dict) and "state_dict" not in content and _OPTIMIZER_KEYS & content.keys():
        raise BadDataError(
            f"The checkpoint {path} holds the state of an optimizer, not weights: its keys are "
            f"{', '.join(map(str, content))[:_TEXTS_SHOWN]}. Use the file with the network's state_dict."
        )
    return read_mmaction2(path)


def _read_pdiparams(path: Path) -> Checkpoint:
    read = read_pdiparams(path)
    return replace(read, state_dict=from_paddle(read.state_dict))


def _torch_layout(path: Path) -> str:
    with path.open("rb") as stream:
        kind = "zip archive" if stream.read(4) == b"PK\3\4" else "single stream, as before torch 1.6"
    content = read_torch_file(path).content
    if "state_dict" not in content:
        return f"{kind}; plain state dict"
    others = [str(key) for key in content if key != "state_dict"]
    return f"{kind}; state_dict" + (f" and {', '.join(others)[:_TEXTS_SHOWN]}" if others else "")


def _pdparams_layout(path: Path) -> str:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        # The complete pickle was validated by the reader before; here only its texts are collected.
        operations = pickletools.genops(view)  # type: ignore[arg-type]
        texts = {text for _, text, _ in operations if isinstance(text, str) and len(text) < _TEXTS_SHOWN}
        nested = "nested: a dictionary with state_dict" if "state_dict" in texts else "flat"
        table = ", with the table of internal names" if _TABLE in texts else ""
        sliced = ", large arrays in slices" if _SLICES in texts else ""
        return f"pickle of protocol {view[1]}; {nested}{table}{sliced}"


def _pdiparams_layout(path: Path) -> str:
    return f"consecutive tensors, named by {path.name}.info"


def _mindspore_layout(path: Path) -> str:
    if is_mindir(path):
        return "model with its graph (.mindir)"
    view = open_mapped(path)
    checked = bytes(view[-17:-10]) == b"crc_num"
    parts = [part for _, part in fields(view[:-17] if checked else view, limit=1 << 20)]
    names = {text_in(grouped(part, limit=8), 1) for part in parts if not isinstance(part, int)}
    sliced = f" in {len(parts)} slices" if len(parts) > len(names) else ""
    return f"{len(names)} entries{sliced} (.ckpt), {'CRC-32 verified' if checked else 'without CRC-32'}"
