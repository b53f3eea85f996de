"""The ATC command line for an ONNX model: a pure function of the graph's inputs and the user's options.

Options, defaults and mutual exclusions are those of Huawei's ATC manual, checked against its sources (atc_flags.cc,
CLI_options). Neither an NPU nor ATC is used here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.atc.cann_versions import Release
from export.atc.precision_option import PrecisionMode, PrecisionModeV2, precision_word
from vidom.errors import UsageError
from vidom.options import option

__all__ = ["AtcOptions", "GraphInput", "atc_command", "parse_batches", "shown"]

_OUTPUT_TYPES = (
    *("FP32", "FP16", "DOUBLE", "INT8", "INT16", "INT32", "INT64"),
    *("UINT8", "UINT16", "UINT32", "UINT64"),
)
_NODE_OUTPUT = re.compile(r"(?P<output>[^;:\s]+:\d{1,4}):(?P<type>\w+)")
# The manual: letters, digits, underscore, hyphen, dot, Chinese characters and, in paths, a slash.
_PATH = re.compile(r"[A-Za-z0-9_./\-\u4e00-\u9fa5]+")
_LARGEST_PROFILE = 2048


def parse_batches(text: str) -> tuple[int, ...]:
    """Return the comma-separated numbers of `text`; raises ValueError for anything else."""
    return tuple(int(part) for part in text.split(","))


@dataclass(frozen=True)
class GraphInput:
    """An input of the graph other than a weight; a symbolic dimension is None.

    Dimension 0 is the batch size times `rows_per_sample`, which is more than 1 for a model whose rows are AIPP images.
    `dtype` is numpy's name of its elements, None where the graph does not say it.
    """

    name: str
    dims: tuple[int | None, ...]
    rows_per_sample: int = 1
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class AtcOptions:
    """Options that are passed on to ATC; the precision is fp16 where neither option of it is given."""

    input_format: Literal["ND", "NCHW", "NCDHW"] = option("ATC's --input_format", default="ND")
    precision_mode_v2: PrecisionModeV2 | None = option(
        "precision, CANN 7 and newer; fp16 if no precision is given", default=None
    )
    precision_mode: PrecisionMode | None = option(
        "precision in older releases; force_fp16 if no precision is given", default=None
    )
    op_precision_mode: Path | None = option(".ini of precisions by operator type or node name", default=None)
    keep_dtype: Path | None = option(
        "file of operators that keep the graph's element type, one per line", default=None
    )
    dynamic_batch_size: tuple[int, ...] = option(
        "batch sizes to select from at run time, e.g. 1,4,8", default=(), parse=parse_batches
    )
    insert_op_conf: Path | None = option(
        "AIPP configuration that replaces the one written for a model exported for AIPP", default=None
    )
    output_type: str | None = option("FP32, FP16, ... or node:0:FP16 for single outputs", default=None)


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

    The precision is always explicit, with the older option `--precision_mode` where the release is unknown or at
    most 6.

    Args:
        model: path of the ONNX file, as ATC opens it.
        output: name of the model without `.om`.
        inputs: the inputs of the graph.
        soc_version: the chip, as `vidom.system.npu.normalise_soc_version` returns it.
        batch_size: the batch size that the graph must have, None to accept any.
        options: further options of ATC.
        cann: the release that will run the command, None where it is unknown.
        program: the first word.

    Raises:
        UsageError: options exclude each other, or the graph or the chip does not allow them.
    """
    options = options or AtcOptions()
    _check_batch(inputs, batch_size, options)
    _check_formats(inputs, options)
    precision = precision_word(
        precision_mode_v2=options.precision_mode_v2,
        precision_mode=options.precision_mode,
        keep_dtype=options.keep_dtype is not None,
        soc_version=soc_version,
        cann=cann,
    )
    words = [
        program,
        f"--model={_path('--model', model)}",
        "--framework=5",
        f"--output={_path('--output', output.removesuffix('.om'))}",
        f"--input_format={options.input_format}",
        f"--input_shape={_input_shape(inputs)}",
    ]
    if options.dynamic_batch_size:
        words.append(f"--dynamic_batch_size={','.join(map(str, options.dynamic_batch_size))}")
    words += ["--log=error", f"--soc_version={soc_version}", precision]
    for name in ("op_precision_mode", "keep_dtype", "insert_op_conf"):
        file = getattr(options, name)
        if file is not None:
            words.append(f"--{name}={_path(f'--{name}', str(file))}")
    words += _output_type(options.output_type)
    _check_whitespace(words)
    return words


def shown(command: Sequence[str]) -> str:
    """Return `command` as a line that can be pasted into a shell."""
    return shlex.join(command)


def _input_shape(inputs: Sequence[GraphInput]) -> str:
    for entry in inputs:
        if re.search(r"[:;,\"'\s]", entry.name):
            raise UsageError(
                f"The input name {entry.name!r} cannot be used in --input_shape, where colon, comma, semicolon, quotes "
                "and whitespace are separators. Rename it and export again."
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
                f"The input {entry.name} has the shape {_dims(entry)}: its symbolic dimensions must be fixed. Give "
                "--batch_size for a symbolic batch, or --dynamic_batch_size 1,4,8 for several, and set other "
                "dimensions with export/modify_onnx.py --input_shape; ATC fails with E10001 otherwise."
            )
        if batch_size is not None and entry.dims[:1] != (batch_size * entry.rows_per_sample,):
            rows = f", {entry.rows_per_sample} images per sample" if entry.rows_per_sample > 1 else ""
            raise UsageError(
                f"--batch_size {batch_size} contradicts the graph, whose input {entry.name} has the shape "
                f"{_dims(entry)}{rows}. Set it with export/modify_onnx.py -bs {batch_size}, or omit --batch_size."
            )


def _check_profiles(inputs: Sequence[GraphInput], batch_size: int | None, profiles: Sequence[int]) -> None:
    if batch_size is not None:
        raise UsageError(
            "--batch_size and --dynamic_batch_size are mutually exclusive: one batch size, or several to select from."
        )
    if not 2 <= len(set(profiles)) == len(profiles) <= 100 or not all(
        1 <= size <= _LARGEST_PROFILE for size in profiles
    ):
        raise UsageError(
            f"--dynamic_batch_size takes 2 to 100 distinct batch sizes of 1 to {_LARGEST_PROFILE}, as in 1,4,8; found "
            f"{','.join(map(str, profiles))}."
        )
    for entry in inputs:
        if entry.dims[:1] != (None,) or None in entry.dims[1:]:
            raise UsageError(
                f"--dynamic_batch_size needs dimension 0, and only it, to be symbolic (-1), but the input {entry.name} "
                f"has the shape {_dims(entry)}. Export with --dynamic_batch and do not fix the batch in surgery."
            )


def _check_formats(inputs: Sequence[GraphInput], options: AtcOptions) -> None:
    ranks = {entry.name: len(entry.dims) for entry in inputs}
    if options.input_format == "NCDHW" and set(ranks.values()) != {5}:
        raise UsageError(f"--input_format NCDHW needs five dimensions; the inputs have {ranks}. Use ND.")
    if options.insert_op_conf is None:
        return
    if options.input_format != "NCHW":
        raise UsageError(
            f"--insert_op_conf (AIPP) processes images and excludes --input_format {options.input_format}; use "
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
            f"Invalid --output_type {text!r}: expected one type for all outputs ({', '.join(_OUTPUT_TYPES)}) or a list "
            "such as node:0:FP16;node2:0:FP32."
        )
    yield f"--output_type={text}"
    # The manual requires both options together when nodes are named.
    yield f"--out_nodes={';'.join(part['output'] for part in found)}"


def _path(name: str, path: str) -> str:
    if not _PATH.fullmatch(path):
        strange = "".join(sorted(set(_PATH.sub("", path))))
        raise UsageError(
            f"{name} {path!r} has characters that ATC does not accept in paths ({strange!r}); letters, digits, "
            "_ - . and / are accepted. Rename or move the file."
        )
    return path


def _check_whitespace(words: Sequence[str]) -> None:
    for word in words:
        if re.search(r"\s", word):
            raise UsageError(
                f"{word!r} contains whitespace, which truncates the value in ATC (E10001). Remove it."
            )


def _dims(entry: GraphInput) -> str:
    return ",".join("?" if size is None else str(size) for size in entry.dims)
