"""The command `convert`: a checkpoint in the format of another framework, or of the one that it came from.

OUT.pth       mmaction2's layout, any network: `meta`, `state_dict` and `optimizer`
OUT.pdparams  PaddleVideo's, PP-TSM only; the optimizer's state is in OUT.pdopt next to it
OUT.ckpt      MindSpore's, StNet only, with the optimizer's state as its training checkpoints have it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import Checkpoint, load_state, save_mmaction2, shapes_of
from networks.checkpoints.mindspore_weights import read_moments, write_mindspore
from networks.checkpoints.pptsm_weights import read_velocities, write_pptsm, write_velocities
from networks.checkpoints.safetensors_file import is_safetensors
from networks.checkpoints.sgd_state import SgdState, from_torch, to_torch, torch_optimizer
from networks.checkpoints.torch_file import read_torch_file
from networks.detect import complete, detect, prefixes
from vidom.errors import UsageError
from vidom.files import human_bytes
from vidom.options import option, read_options
from vidom.wording import shown, some

__all__ = ["Conversion", "ConvertOptions", "convert", "main"]

_NETWORKS = {
    ".pth": ("tsm", "i3d", "pptsm", "stnet"),
    ".pdparams": ("pptsm",),
    ".ckpt": ("stnet",),
}
_OF_TORCH = ("mmaction2", "torch")
_PADDLE_STATE = ".pdopt"
_TorchState = tuple[dict[str, Any], dict[str, int | float]]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Write the weights of a checkpoint, and the state of its optimizer, in another framework's format."""

    source: Path = option(".pth, .safetensors, .pdparams, .pdiparams, .ckpt or .mindir", "source")
    target: Path = option("the file to write: .pth, or .pdparams for PP-TSM, or .ckpt for StNet", "target")

    def __post_init__(self) -> None:
        if self.target.suffix not in _NETWORKS:
            raise UsageError(
                f"The name of the file to write, {self.target}, selects the format by its end: {', '.join(_NETWORKS)}. "
                "Choose a name with one of these."
            )
        if self.target.exists() and self.source.exists() and self.target.samefile(self.source):
            raise UsageError(
                f"{self.target} is the checkpoint to convert. Choose another name for the new file."
            )


@dataclass(frozen=True)
class Conversion:
    """What was written: the network, the number of tensors in each file, and phrases about what was left out."""

    title: str
    tensors: Mapping[Path, int]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{path}: {self.title}, {count} tensors, {human_bytes(path.stat().st_size)}"
            for path, count in self.tensors.items()
        ]
        return "\n".join([*lines, *(f"left out: {phrase}" for phrase in self.left_out)])


def convert(options: ConvertOptions) -> Conversion:
    """Write the checkpoint `source` to `target` in the format that its suffix names, and return what was written.

    The tensors are those of the complete network, in float32, with the names and in the order of the format's own
    files. Momentum is written where the source has it for all trained parameters. Existing files are replaced.

    Raises UsageError where the format's framework does not have the network; BadDataError where the checkpoint is
    damaged, incomplete or of no supported network.
    """
    read = read_any(options.source)
    shapes = shapes_of(read.state_dict)
    detected = complete(detect(shapes), read.path, prefixes(shapes))
    path, suffix = options.target, options.target.suffix
    if detected.arch not in _NETWORKS[suffix]:
        raise UsageError(
            f"{read.path} is of {detected.title}, for which no framework has the format {suffix}: .pdparams is for "
            "PP-TSM and .ckpt for StNet. Choose a name that ends in .pth, which takes every network."
        )
    network = detected.build()
    load_state(network, read.state_dict, source=f"The checkpoint {read.path}")
    left_out = list(read.notes)
    try:
        momentum = _torch_state(read, network) if suffix == ".pth" else _momentum(read, network)
    except ValueError as error:
        momentum = None
        left_out.append(str(error))
    if suffix != ".pth":
        left_out += _only_in_pth(read)
    return Conversion(detected.title, _WRITERS[suffix](path, network, read, momentum), tuple(left_out))


def _write_pth(
    path: Path, network: nn.Module, read: Checkpoint, state: _TorchState | None
) -> dict[Path, int]:
    optimizer, progress = state or (None, {})
    config = {"config": read.config} if isinstance(read.config, str) else {}
    save_mmaction2(path, network, {**read.meta, **progress, **config}, optimizer=optimizer)
    return {path: len(network.state_dict())}


def _write_pdparams(path: Path, network: nn.Module, _: Checkpoint, state: SgdState | None) -> dict[Path, int]:
    weights = network.state_dict()
    written = {path: write_pptsm(path, weights)}
    if state is not None:
        momentum_file = path.with_suffix(_PADDLE_STATE)
        written[momentum_file] = write_velocities(momentum_file, weights, state)
    return written


def _write_ckpt(path: Path, network: nn.Module, _: Checkpoint, state: SgdState | None) -> dict[Path, int]:
    return {path: write_mindspore(path, network.state_dict(), state)}


_WRITERS: Mapping[str, Callable[[Path, nn.Module, Checkpoint, Any], dict[Path, int]]] = {
    ".pth": _write_pth,
    ".pdparams": _write_pdparams,
    ".ckpt": _write_ckpt,
}


def _only_in_pth(read: Checkpoint) -> Iterator[str]:
    counters = sum(key.endswith(".num_batches_tracked") for key in read.state_dict)
    if counters:
        yield f"{counters} counters num_batches_tracked, which only torch has"
    if read.meta:
        yield f"the entries of meta: {shown(some(read.meta))}"


def _torch_state(read: Checkpoint, network: nn.Module) -> _TorchState | None:
    """Return the optimizer's state dict, from a .pth as it is there, and the steps and epochs that `meta` lacks."""
    if read.framework in _OF_TORCH:
        optimizer = _torch_optimizer(read)
        return None if optimizer is None else (optimizer, {})
    state = _momentum(read, network)
    return None if state is None else (to_torch(state), state.progress)


def _momentum(read: Checkpoint, network: nn.Module) -> SgdState | None:
    """Return the momentum of every trained parameter, None where the source has no optimizer's state.

    Raises ValueError where it has one of other contents.
    """
    state = None
    momentum_file = read.path.with_suffix(_PADDLE_STATE)
    if read.framework in _OF_TORCH:
        optimizer = _torch_optimizer(read)
        state = None if optimizer is None else from_torch(optimizer, read.meta)
    elif read.framework == "mindspore":
        state = read_moments(read.path)
    elif momentum_file.is_file():
        state = read_velocities(momentum_file, network.state_dict())
    if state is None:
        return None
    trained = shapes_of(dict(network.named_parameters()))
    if shapes_of(state.buffers) != trained:
        raise ValueError("the optimizer's state does not fit the network")
    return replace(state, buffers={name: state.buffers[name] for name in trained})


def _torch_optimizer(read: Checkpoint) -> dict[str, Any] | None:
    return None if is_safetensors(read.path) else torch_optimizer(read_torch_file(read.path))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the files that were written, and what was left out of them."""
    print(convert(read_options(ConvertOptions, argv, prog="vidom convert")))
