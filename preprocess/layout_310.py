"""Lay out a clip store as in MindSpore's 310 guide: `python preprocess/layout_310.py --store S --output_dir D`.

D/data/stnet_data_bs1_0.bin ...   one float32 sample each
D/label_ids.npy                   int32 [samples, 1]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidom.command import run
from vidom.errors import UsageError
from vidom.files import atomic_path, remove_leftovers
from vidom.folder_lock import locked_folder
from vidom.formats.clip_store import ClipStore
from vidom.formats.mindspore_310 import input_name, write_label_ids
from vidom.options import option, read_options

__all__ = ["Layout310Options", "lay_out", "main"]


@dataclass(frozen=True, kw_only=True)
class Layout310Options:
    """Lay out a clip store as in MindSpore's 310 guide."""

    store: Path = option("clip store with one float32 sample per file")
    output_dir: Path = option("folder that the guide calls preprocess_Result")


def lay_out(options: Layout310Options) -> Path:
    """Write the store's samples and labels to `output_dir` under the guide's names, numbered from 0, and return it.

    Files are hard links where the file system supports them, so that nothing is stored twice. Raises UsageError for a
    store of several samples per file, of single views or of uint8, which the guide does not support, BadDataError for
    a damaged store.
    """
    store, output_dir = ClipStore.open(options.store), options.output_dir
    header = store.header
    if (header.samples_per_file, header.views_per_sample, header.dtype) != (1, 1, "float32"):
        raise UsageError(
            f"The 310 guide requires files of one float32 sample, but {options.store} has {header.samples_per_file} "
            f"{header.dtype} sample(s) of {header.views_per_sample} view(s) per file. Pack it with --batch_size 1 "
            "--dtype float32 and without --per_view."
        )
    store.check_sizes()
    remove_leftovers(output_dir / "data")
    for index, clip_file in enumerate(store.files):
        _link(store.path(clip_file), output_dir / "data" / input_name(index))
    labels = [store.samples[clip_file.samples[0]].label for clip_file in store.files]
    write_label_ids(output_dir / "label_ids.npy", labels)
    return output_dir


def _link(source: Path, target: Path) -> None:
    with atomic_path(target, durable=False) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            # A different disk, or one without hard links.
            shutil.copyfile(source, temporary)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, lay out, and print the folder."""
    options = read_options(Layout310Options, argv)
    with locked_folder(options.output_dir):
        print(lay_out(options))


if __name__ == "__main__":
    run(main)
