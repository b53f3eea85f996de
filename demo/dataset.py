"""The demo's data set for inference: generated videos, their frames and the list."""

from __future__ import annotations

from pathlib import Path

from demo.generate import GenerateOptions, generate
from demo.sthv2_folder import Layout
from preprocess.prepare import PrepareOptions, prepare
from vidom.formats.recipe import load_recipe

__all__ = ["generate_frames"]


def generate_frames(output_dir: Path) -> Layout:
    """Generate the videos in `output_dir`, extract their frames and return the data set.

    Existing files are kept.
    """
    data = generate(GenerateOptions(output_dir=output_dir))
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
