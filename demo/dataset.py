"""The demo's data set as evaluation needs it: drawn videos, their frames and the list."""

from __future__ import annotations

from pathlib import Path

from demo.generate import generate
from demo.sthv2_folder import Layout
from preprocess.prepare import PrepareOptions, prepare
from vidom.formats.recipe import load_recipe

__all__ = ["draw_frames"]


def draw_frames(output_dir: Path) -> Layout:
    """Return the data set in `output_dir`, its videos drawn and prepared as Something-Something's are.

    What is there already is kept.
    """
    data = generate(output_dir=output_dir)
    prepare(
        PrepareOptions(
            dataset="sthv2",
            src=data.root,
            out=data.root,
            num_classes=load_recipe("tsm_demo").dataset.num_classes,
            decoder="pyav",
        )
    )
    return data
