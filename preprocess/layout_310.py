"""Lay out a clip store as MindSpore's 310 guide does: `python preprocess/layout_310.py --store S --output_dir D`.

D/data/stnet_data_bs1_0.bin ...   one float32 sample each
D/label_ids.npy                   int32 [samples, 1]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.files import atomic_path
from vidom.formats.clip_store import ClipStore
from vidom.formats.mindspore_310 import input_name, write_label_ids

__all__ = ["lay_out", "main"]


def lay_out(*, store: Path, output_dir: Path) -> Path:
    """Return `output_dir` holding the store's samples and labels under the guide's names, counted from 0.

    Files are hard links where the disk allows it, so that nothing is stored twice. Raises UsageError for a
    store of several samples a file or of uint8, which the guide does not know, BadDataError for a damaged store.
    """
    opened = ClipStore.open(store)
    header = opened.header
    if (header.samples_per_file, header.views_per_sample, header.dtype) != (1, 1, "float32"):
        raise UsageError(
            f"The 310 guide takes files of one float32 sample, but {store} has {header.samples_per_file} "
            f"{header.dtype} sample(s) of {header.views_per_sample} view(s) a file. Pack it with --batch_size 1 "
            "--dtype float32 and without --per_view."
        )
    opened.check_sizes()
    for index, clip_file in enumerate(opened.files):
        _link(opened.path(clip_file), output_dir / "data" / input_name(index))
    labels = [opened.samples[clip_file.samples[0]].label for clip_file in opened.files]
    write_label_ids(output_dir / "label_ids.npy", labels)
    return output_dir


def _link(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            # Another disk, or one without hard links.
            shutil.copyfile(source, temporary)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, lay out, print the folder."""
    parser = Parser(description="Lay out a clip store as MindSpore's 310 guide does.")
    parser.add_argument("--store", type=Path, required=True, help="clip store of single float32 samples")
    parser.add_argument("--output_dir", type=Path, required=True, help="the guide's preprocess_Result")
    options = parser.parse_args(argv)
    print(lay_out(store=options.store, output_dir=options.output_dir))


if __name__ == "__main__":
    run(main)
