"""Which files form which batch: listed, sorted, packed and padded as ais_bench does, but checked first.

ais_bench checks the size of the first file only, and files of one stem overwrite each other's outputs; here every
file is checked before anything runs, against the model and, if it belongs to a clip store, against the store's
manifest. Source: ais_bench 0.0.2, `infer/io_oprations.py` and `infer/utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infer.batches.batch_plan import BatchPlan, InputFile
from infer.batches.store_inputs import StoreFacts, store_facts, store_of
from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError, UsageError
from vidom.formats.engine_outputs import output_stem
from vidom.formats.npy import read_npy_header

__all__ = [
    "InputArgument",
    "fed_specs",
    "first_input",
    "natural_key",
    "plan_batches",
]

InputArgument = str | Path | Sequence[str | Path]
_SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")


def natural_key(path: str) -> tuple[list[int | str], str]:
    """Return ais_bench's sorting key: numbers anywhere in the path by value, letters ignoring case."""
    # Text and numbers alternate, beginning with text, so that the lists of two paths always compare.
    parts = re.split(r"([0-9]+)", path)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)], path


def plan_batches(argument: InputArgument, specs: Sequence[TensorSpec]) -> BatchPlan:
    """Return the batches that `--input` asks for, every file checked against its model input.

    `argument` is a comma list: one folder per model input, or files (for several inputs: all files of the
    first, then as many of the second...). Raises BadDataError or UsageError naming the file that does not fit.
    """
    listed = _list_files(argument, len(specs))
    counts = {len(paths) for paths in listed}
    if len(counts) != 1:
        numbers = ", ".join(f"{spec.name!r} {len(paths)}" for spec, paths in zip(specs, listed, strict=True))
        raise BadDataError(f"Every model input needs the same number of files, found for {numbers}.")
    _check_stems(listed[0])
    # A store knows its dtype and shape, so it is asked before they are guessed from sizes.
    stores = [_stores(paths, spec) for spec, paths in zip(specs, listed, strict=True)]
    files_per_batch = _files_per_batch(listed[0][0], specs[0])
    columns = [
        list(_checked_files(paths, spec, files_per_batch, facts))
        for spec, paths, facts in zip(specs, listed, stores, strict=True)
    ]
    views = max((facts.views for facts in stores[0].values() if facts), default=1)
    return BatchPlan(tuple(zip(*columns, strict=True)), files_per_batch, views)


def fed_specs(argument: InputArgument, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the model inputs as the files hold them: float32 for a float16 input that a store or NPY files are given.

    The engines of this process round the numbers. Files outside a store that state no dtype hold what the model takes.
    """
    listed = _list_files(argument, len(specs))
    return tuple(
        replace(spec, dtype=np.dtype("float32"))
        if spec.dtype == np.float16 and _stated_dtype(Path(paths[0])) == np.float32
        else spec
        for spec, paths in zip(specs, listed, strict=True)
    )


def _stated_dtype(path: Path) -> np.dtype[Any] | None:
    if path.suffix.lower() == ".npy":
        return read_npy_header(path, what="input file").dtype
    store = store_of(path.parent)
    return None if store is None else np.dtype(store.header.dtype)


def first_input(argument: InputArgument) -> Path:
    """Return the first file of `--input`, which is a folder or files of one model input."""
    return Path(_list_files(argument, 1)[0][0])


def _list_files(argument: InputArgument, inputs: int) -> list[list[str]]:
    names = argument.split(",") if isinstance(argument, str) else argument
    paths = [str(path) for path in ([names] if isinstance(names, Path) else names)]
    for path in paths:
        if not path or not Path(path).exists():
            raise UsageError(
                f"The --input {path!r} does not exist. Check the path; separate inputs with commas."
            )
    folders = [path for path in paths if Path(path).is_dir()]
    if folders and len(folders) != len(paths):
        raise UsageError(
            f"--input mixes files and folders (the first folder is {folders[0]}); give one kind."
        )
    if folders and len(folders) != inputs:
        raise UsageError(
            f"--input names {len(folders)} folders, the model has {inputs} inputs: one for each."
        )
    if folders:
        return [_list_folder(folder) for folder in folders]
    if not paths or len(paths) % inputs:
        raise UsageError(
            f"--input names {len(paths)} files, which cannot be split evenly among {inputs} model inputs."
        )
    share = len(paths) // inputs
    return [paths[start : start + share] for start in range(0, len(paths), share)]


def _list_folder(folder: str) -> list[str]:
    # The paths keep the spelling of the command line (`./in5/a.bin`), which pathlib would tidy away.
    prefix = folder if folder.endswith("/") else f"{folder}/"
    names = [path.name for path in Path(folder).iterdir() if path.name.endswith(_SUFFIXES) and path.is_file()]
    if not names:
        raise BadDataError(f"The input folder {folder} holds no .bin and no .npy file.")
    return sorted((prefix + name for name in names), key=natural_key)


def _check_stems(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        stem = output_stem(path)
        if stem in seen:
            raise BadDataError(
                f"{seen[stem]} and {path} would write the same output, {stem}_0, because a name is cut at "
                "its first dot. Rename one of them."
            )
        seen[stem] = path


def _files_per_batch(first: str, spec: TensorSpec) -> int:
    found = _tensor_bytes(first, spec)
    row_bytes = spec.nbytes // spec.rows
    if found == 0 or spec.nbytes % found or found % row_bytes:
        raise BadDataError(
            f"The input file {first} has {found} bytes. The model's input {spec.name!r} is {spec}, {spec.nbytes} "
            f"bytes; the file size must be a multiple of one sample ({row_bytes} bytes) and divide the batch. The file "
            "is truncated, or was packed with a dtype or shape that differs from the model's."
        )
    return spec.nbytes // found


def _stores(paths: Sequence[str], spec: TensorSpec) -> dict[Path, StoreFacts | None]:
    return {folder: store_facts(folder, spec) for folder in {Path(path).parent for path in paths}}


def _checked_files(
    paths: Sequence[str],
    spec: TensorSpec,
    files_per_batch: int,
    stores: Mapping[Path, StoreFacts | None],
) -> Iterator[InputFile]:
    expected, remainder = divmod(spec.nbytes, files_per_batch)
    rows = max(1, spec.rows // files_per_batch)
    if remainder:
        raise BadDataError(
            f"{files_per_batch} files make a batch of the model's first input, but the {spec.nbytes} bytes of "
            f"its input {spec.name!r} cannot be split into that many files."
        )
    for path in paths:
        found = _tensor_bytes(path, spec)
        if found != expected:
            raise BadDataError(
                f"The input file {path} has {found} bytes, expected {expected}: a batch of the model's input "
                f"{spec.name!r} ({spec}, {spec.nbytes} bytes) consists of {files_per_batch} files. It is "
                "truncated or belongs to a different model; create it again."
            )
        yield _input_file(path, found, rows, stores[Path(path).parent])


def _input_file(path: str, size: int, rows: int, facts: StoreFacts | None) -> InputFile:
    mtime = Path(path).stat().st_mtime_ns
    if facts is None:
        return InputFile(path, size, mtime, rows, rows, None)
    clip_file = facts.clip_file(Path(path))
    return InputFile(path, size, mtime, rows, len(clip_file.samples), clip_file.crc32)


def _tensor_bytes(path: str, spec: TensorSpec) -> int:
    if not path.lower().endswith(".npy"):
        return Path(path).stat().st_size
    array = read_npy_header(path, what="input file")
    if array.dtype != spec.dtype:
        raise UsageError(
            f"The input file {path} holds {array.dtype}, the model's input {spec.name!r} takes {spec.dtype}. "
            "Convert the files, or export the model for their dtype."
        )
    if array.shape[1:] != spec.sample_shape and array.shape != spec.sample_shape:
        raise BadDataError(
            f"The input file {path} has shape {array.shape}, a sample of the model's input {spec.name!r} "
            f"{spec.sample_shape}; all axes but the first must be equal."
        )
    return array.nbytes
