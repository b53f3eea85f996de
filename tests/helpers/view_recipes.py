"""Recipes of six views, small enough to build many times, and drawn videos for them."""

from __future__ import annotations

from pathlib import Path

from preprocess.pack import PackOptions, pack
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import Recipe

FRAMES = Path(__file__).parents[1] / "fixtures" / "synth"
NAMES = ("i3d_340x256", "land_427x240", "odd_341x257", "one_320x240", "port_240x427")
VIEWS = 6
I3D = """
name: tiny_i3d
summary: an I3D small enough to build many times
network: {arch: i3d, depth: 26, base_channels: 8}
checkpoint: {framework: mmaction2, file: tiny.pth}
dataset: {name: tiny, num_classes: 7, labels: LABELS}
views:
  num_segments: 2
  clip_len: 8
  frame_interval: 2
  short_side: 32
  crop: three
  crop_size: 32
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
  layout: NCTHW
head: {softmax: true, average_clips: prob}
"""


def write_recipes(folder: Path, tsm: str) -> dict[str, Path]:
    """Six views of four frames for TSM, whose recipe is the text given, six of eight frames for I3D."""
    labels = folder / "labels.txt"
    labels.write_text("\n".join(f"class {index}" for index in range(7)))
    texts = {"tsm": tsm.replace("labels/tiny.txt", str(labels)), "i3d": I3D.replace("LABELS", str(labels))}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return {name: folder / f"{name}.yaml" for name in texts}


def write_list(path: Path) -> Path:
    lines = [
        f"{name} {len(list((FRAMES / name).iterdir()))} {index % 7}\n" for index, name in enumerate(NAMES)
    ]
    path.write_text("".join(lines))
    return path


def packed(recipe: Recipe, annotations: Path, folder: Path, **options: object) -> ClipStore:
    data = {"data_root": FRAMES, "ann_file": annotations, "output_dir": folder}
    return pack(PackOptions(recipe=recipe, workers=1, **data, **options))  # type: ignore[arg-type]
