"""Read checkpoints of any framework, with the format detected from a file's first bytes, not from its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from networks.checkpoints.checkpoint import Checkpoint
from networks.checkpoints.mindspore_weights import read_mindspore
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.pdiparams import read_pdiparams
from networks.checkpoints.pptsm_weights import from_paddle, read_pptsm
from networks.checkpoints.safetensors_file import is_safetensors, read_safetensors
from networks.checkpoints.torch_weights import read_torch
from vidom.errors import BadDataError
from vidom.wording import shown, some

__all__ = ["read_any"]

_HEAD_BYTES = 64
# The number that files of torch.save started with before 1.6, as encoded in a pickle.
_TORCH_LEGACY = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_ENCRYPTED = tuple(number.to_bytes(4, "little") for number in (0x7F3A5ED8, 0x7F3A5ED9, 0x7F3A5EDA))
_PDIPARAMS = bytes(16)
_MINDSPORE_LEAVES = (".gamma", ".moving_mean", ".moving_variance")
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


def read_any(path: Path | str) -> Checkpoint:
    """Return the weights of the checkpoint at `path`, of any supported framework; nothing in it is executed.

    Raises UsageError when there is no such file; BadDataError when its format is unknown, and as `read_torch`,
    `read_pptsm` and `read_mindspore` do.
    """
    path = checkpoint_file(path)
    checkpoint = _reader(path)(path)
    if not checkpoint.state_dict:
        raise BadDataError(
            f"The checkpoint {path} of {checkpoint.framework} has no weights of a network, only those of an optimizer "
            f"or counters ({shown(some(checkpoint.meta)) or 'nothing else'}). Use the file of the model."
        )
    return checkpoint


def _reader(path: Path) -> Callable[[Path], Checkpoint]:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if is_safetensors(path):
        names, _ = read_safetensors(path)
        return read_mindspore if any(name.endswith(_MINDSPORE_LEAVES) for name in names) else read_torch
    if head.startswith(b"PK\3\4") or (head[:1] == b"\x80" and _TORCH_LEGACY in head):
        return read_torch
    if head[:1] == b"\x80":
        return read_pptsm
    if head.startswith(_PDIPARAMS):
        return _read_pdiparams
    if head.startswith((b"\n", *_ENCRYPTED)):
        return read_mindspore
    known = (text for start, text in _OTHER_FORMATS.items() if head.startswith(start))
    what = next(known, f"starts with {head[:8].hex(' ')}" if head else "is empty")
    raise BadDataError(
        f"The file {path} is not a supported checkpoint: it {what}. Expected a .pth of torch (a zip archive or a "
        "pickle of torch.save), safetensors, a .pdparams or .pdiparams of Paddle, or a .ckpt or .mindir of MindSpore."
    )


def _read_pdiparams(path: Path) -> Checkpoint:
    read = read_pdiparams(path)
    return replace(read, state_dict=from_paddle(read.state_dict))
