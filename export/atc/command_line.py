"""The ATC command line for an ONNX model: a pure function of the graph's inputs and what the user chose.

Options, defaults and what excludes what are those of Huawei's ATC manual, checked against its sources
(atc_flags.cc, CLI_options). No NPU and no ATC takes part here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from export.atc.cann_versions import Release
from export.atc.precision_option import precision_word
from vidom.errors import UsageError

__all__ = ["INPUT_FORMATS", "AtcOptions", "GraphInput", "atc_command", "shown"]

InputFormat = Literal["ND", "NCHW", "NCDHW"]
INPUT_FORMATS: tuple[InputFormat, ...] = get_args(InputFormat)
_OUTPUT_TYPES = (
    "FP32",
    "FP16",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "UINT32",
    "INT32",
    "UINT64",
    "INT64",
    "DOUBLE",
)
_NODE_OUTPUT = re.compile(r"(?P<output>[^;:\s]+:\d{1,4}):(?P<type>\w+)")
# The manual: letters, digits, underscore, hyphen, dot and Chinese characters, for paths a slash.
_PATH = re.compile(r"[A-Za-z0-9_./\-\u4e00-\u9fa5]+")
_LARGEST_PROFILE = 2048


@dataclass(frozen=True)
class GraphInput:
    """An input of the graph that is no weight; a free dimension is None.

    Dimension 0 is the batch times `rows_per_sample`, which is more than 1 for a model of AIPP's pictures.
    """

    name: str
    dims: tuple[int | None, ...]
    rows_per_sample: int = 1


@dataclass(frozen=True)
class AtcOptions:
    """What the user may choose; the precision is fp16 where neither name of it is given."""

    input_format: InputFormat = "ND"
    precision_mode_v2: str | None = None
    precision_mode: str | None = None
    op_precision_mode: Path | None = None
    keep_dtype: Path | None = None
    dynamic_batch_size: tuple[int, ...] = ()
    insert_op_conf: Path | None = None
    output_type: str | None = None


def atc_command(
    *,
    model: str,
    output: str,
    inputs: Sequence[GraphInput],
    soc_version: str,
    batch_size: int | None = None,
    options: AtcOptions | None = None,
    cann: Release | None = None,
    program: str = "atc",
) -> list[str]:
    """Return the words of the ATC command, without shell quoting, in the order of the published guide.

    `output` is the name without `.om`; `soc_version` as `vidom.system.npu.normalise_soc_version` gives it; `cann`
    the release that will run it, None where that is unknown. The precision is always written out, under the
    older name `--precision_mode` where the release is unknown or no newer than 6. Raises UsageError, with the
    reason, for options that exclude each other or that the graph or the chip does not allow.
    """
    chosen = options or AtcOptions()
    _check_batch(inputs, batch_size, chosen)
    _check_formats(inputs, chosen)
    precision = precision_word(
        precision_mode_v2=chosen.precision_mode_v2,
        precision_mode=chosen.precision_mode,
        keep_dtype=chosen.keep_dtype is not None,
        soc_version=soc_version,
        cann=cann,
    )
    words = [
        program,
        f"--model={_path('--model', model)}",
        "--framework=5",
        f"--output={_path('--output', output.removesuffix('.om'))}",
        f"--input_format={chosen.input_format}",
        f"--input_shape={_input_shape(inputs)}",
    ]
    if chosen.dynamic_batch_size:
        words.append(f"--dynamic_batch_size={','.join(map(str, chosen.dynamic_batch_size))}")
    words += ["--log=error", f"--soc_version={soc_version}", precision]
    for name in ("op_precision_mode", "keep_dtype", "insert_op_conf"):
        file = getattr(chosen, name)
        if file is not None:
            words.append(f"--{name}={_path(f'--{name}', str(file))}")
    words += _output_type(chosen.output_type)
    _check_blanks(words)
    return words


def shown(command: Sequence[str]) -> str:
    """Return `command` as a line that can be pasted into a shell."""
    return shlex.join(command)


def _input_shape(inputs: Sequence[GraphInput]) -> str:
    for entry in inputs:
        if re.search(r"[:;,\"'\s]", entry.name):
            raise UsageError(
                f"The input {entry.name!r} of the graph cannot be named in --input_shape, where colon, comma, "
                "semicolon, quotes and blanks separate. Rename it and export again."
            )
    shapes = (",".join("-1" if size is None else str(size) for size in entry.dims) for entry in inputs)
    return ";".join(f"{entry.name}:{shape}" for entry, shape in zip(inputs, shapes, strict=True))


def _check_batch(inputs: Sequence[GraphInput], batch_size: int | None, options: AtcOptions) -> None:
    profiles = options.dynamic_batch_size
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch_size must be at least 1, found {batch_size}.")
    if profiles:
        _check_profiles(inputs, batch_size, profiles)
        return
    for entry in inputs:
        if None in entry.dims:
            raise UsageError(
                f"The input {entry.name} has the shape {_dims(entry)}: its free dimensions must be fixed. Give "
                "--batch_size for a free batch, or --dynamic_batch_size 1,4,8 for several; ATC says E10001 otherwise."
            )
        if batch_size is not None and entry.dims[:1] != (batch_size * entry.rows_per_sample,):
            pictures = f", {entry.rows_per_sample} pictures a sample" if entry.rows_per_sample > 1 else ""
            raise UsageError(
                f"--batch_size {batch_size} contradicts the graph, whose input {entry.name} has the shape "
                f"{_dims(entry)}{pictures}. Write the batch into it with export/modify_onnx.py -bs {batch_size}, or "
                "leave --batch_size out."
            )


def _check_profiles(inputs: Sequence[GraphInput], batch_size: int | None, profiles: Sequence[int]) -> None:
    if batch_size is not None:
        raise UsageError(
            "--batch_size and --dynamic_batch_size exclude each other: one batch, or several to choose from."
        )
    if not 2 <= len(set(profiles)) == len(profiles) <= 100 or not all(
        1 <= size <= _LARGEST_PROFILE for size in profiles
    ):
        raise UsageError(
            f"--dynamic_batch_size takes 2 to 100 different batches of 1 to {_LARGEST_PROFILE}, as in 1,4,8; found "
            f"{','.join(map(str, profiles))}."
        )
    for entry in inputs:
        if entry.dims[:1] != (None,) or None in entry.dims[1:]:
            raise UsageError(
                f"--dynamic_batch_size needs dimension 0, and only it, to be free (-1), but the input {entry.name} has "
                f"the shape {_dims(entry)}. Export with --dynamic_batch and skip fixing the batch in surgery."
            )


def _check_formats(inputs: Sequence[GraphInput], options: AtcOptions) -> None:
    ranks = {entry.name: len(entry.dims) for entry in inputs}
    if options.input_format == "NCDHW" and set(ranks.values()) != {5}:
        raise UsageError(f"--input_format NCDHW means five dimensions; the inputs have {ranks}. Use ND.")
    if options.insert_op_conf is None:
        return
    if options.input_format != "NCHW":
        raise UsageError(
            f"--insert_op_conf (AIPP) works on images and excludes --input_format {options.input_format}; give "
            "--input_format NCHW."
        )
    if set(ranks.values()) != {4}:
        raise UsageError(
            f"--insert_op_conf (AIPP) takes inputs of four dimensions, N,C,H,W; the inputs have {ranks}. Export the "
            "model for AIPP (to_onnx.py --input_dtype aipp), or with the normalisation inside (--input_dtype uint8)."
        )


def _output_type(text: str | None) -> Iterator[str]:
    if text is None:
        return
    if text in _OUTPUT_TYPES:
        yield f"--output_type={text}"
        return
    parts = [_NODE_OUTPUT.fullmatch(part) for part in text.split(";")]
    found = [part for part in parts if part is not None and part["type"] in _OUTPUT_TYPES]
    if len(found) != len(parts):
        raise UsageError(
            f"--output_type {text!r} is neither one type for all outputs ({', '.join(_OUTPUT_TYPES)}) nor a list such "
            "as node:0:FP16;node2:0:FP32."
        )
    yield f"--output_type={text}"
    # The manual asks for both options together when nodes are named.
    yield f"--out_nodes={';'.join(part['output'] for part in found)}"


def _path(option: str, path: str) -> str:
    if not _PATH.fullmatch(path):
        strange = "".join(sorted(set(_PATH.sub("", path))))
        raise UsageError(
            f"{option} {path!r} has characters that ATC takes in no path ({strange!r}); letters, digits, _ - . and / "
            "are taken. Rename or move the file."
        )
    return path


def _check_blanks(words: Sequence[str]) -> None:
    for word in words:
        if re.search(r"\s", word):
            raise UsageError(
                f"{word!r} holds a blank, at which ATC would cut the value off (E10001). Remove it."
            )


def _dims(entry: GraphInput) -> str:
    return ",".join("?" if size is None else str(size) for size in entry.dims)
