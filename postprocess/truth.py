"""The labels that results are scored against, and the clip store that their inputs are from."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from postprocess.outputs import Output
from vidom.errors import UsageError
from vidom.formats.clip_store import ClipStore, read_info
from vidom.wording import some

__all__ = ["Truth", "find_truth"]

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Truth:
    """The label of each sample by index, the file it was read from, and the clip store, where there is one."""

    labels: Mapping[int, int]
    source: Path
    store: ClipStore | None


def find_truth(outputs: Sequence[Output], info_path: Path | None) -> Truth:
    """Return the labels of the list `info_path`, else those of the clip store of the outputs' input files.

    With a list, its own folder may be the clip store too.

    Raises UsageError where there is no list and the inputs are not from a clip store, BadDataError for a damaged list
    or manifest.
    """
    inputs = _input_folders(outputs)
    stores = _store_folders(inputs[0]) if inputs else []
    if info_path is not None:
        return Truth(read_info(info_path), info_path, _open_store([*stores, info_path.parent]))
    store = _open_store(stores) if len(inputs) == 1 else None
    if store is None:
        raise UsageError(
            f"The labels of the outputs in {outputs[0].folder} are unknown: {_why_no_store(inputs)}. Give --info_path "
            "with the list of `index label` lines, such as sthv2.info, or label_ids.npy of MindSpore's 310 flow."
        )
    labels = {index: sample.label for index, sample in store.samples.items()}
    return Truth(labels, store.folder / _MANIFEST, store)


def _input_folders(outputs: Sequence[Output]) -> list[Path]:
    folders = dict.fromkeys(
        posixpath.dirname(output.infile) for output in outputs if output.infile is not None
    )
    return [Path(folder) for folder in folders]


def _store_folders(inputs: Path) -> list[Path]:
    """Return the folders whose clip store the files in `inputs` may be."""
    return [inputs, inputs.parent] if inputs.name == "clips" else [inputs]


def _open_store(folders: Sequence[Path]) -> ClipStore | None:
    for folder in folders:
        # The summary may name folders of another user, which `is_file` may not enter.
        if os.access(folder / _MANIFEST, os.R_OK):
            return ClipStore.open(folder)
    return None


def _why_no_store(inputs: Sequence[Path]) -> str:
    if not inputs:
        return "no summary names their input files"
    if len(inputs) > 1:
        return f"their input files are from {len(inputs)} folders ({some(inputs)})"
    manifests = " and ".join(str(folder / _MANIFEST) for folder in _store_folders(inputs[0]))
    reason = f"their input files were in {inputs[0]}, but there is no clip store ({manifests} not found)"
    if inputs[0].is_absolute():
        return reason
    return f"{reason}; relative to {Path.cwd()}, where the inference may not have been run"
