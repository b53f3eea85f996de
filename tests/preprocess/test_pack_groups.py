"""Stores of single views: the bytes of complete samples, in the memory of about one view, even after interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from packing import packed_by_one
from view_recipes import FRAMES, NAMES, VIEWS, packed, write_list, write_recipes

from export.to_onnx import main as to_onnx
from infer.batches.inputs import natural_key
from preprocess.sources.frames import RawFrames
from preprocess.tensors.clips import read_clips
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import load_recipe


@pytest.fixture(scope="module")
def recipes(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_recipes(tmp_path_factory.mktemp("recipes"), tiny_recipe.read_text())


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_list(tmp_path_factory.mktemp("lists") / "list.txt")


@pytest.mark.parametrize("arch", ["tsm", "i3d"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_files_are_the_views_of_the_sample_in_order(
    arch: str, dtype: str, recipes: dict[str, Path], annotations: Path, tmp_path: Path
):
    recipe = load_recipe(str(recipes[arch]))
    complete = packed(recipe, annotations, tmp_path / "complete", dtype=dtype)
    parts = packed(recipe, annotations, tmp_path / "parts", dtype=dtype, per_view=True)
    shape = {"tsm": (4, 3, 32, 32), "i3d": (1, 3, 8, 32, 32)}[arch]
    assert parts.header.shape == recipe.one_view().views.sample_shape == shape
    assert (parts.header.views_per_sample, parts.header.average_clips) == (VIEWS, recipe.head.average_clips)
    assert parts.header.sample_bytes == complete.header.sample_bytes == VIEWS * parts.header.file_bytes
    assert parts.samples == complete.samples
    info = [(store.folder / "tiny.info").read_text() for store in (complete, parts)]
    assert info[0] == info[1]

    # Sorted as ais_bench sorts, the files are sample after sample, view after view.
    names = sorted((path.name for path in (parts.folder / "clips").iterdir()), key=natural_key)
    assert names == [clip_file.name for clip_file in parts.files]
    assert [(f.samples, f.view) for f in parts.files] == [
        ((index,), view) for index in range(len(NAMES)) for view in range(VIEWS)
    ]
    assert names[:2] == ["000000v00.bin", "000000v01.bin"]
    for sample, clip_file in enumerate(complete.files):
        views = np.concatenate([parts.read(part) for part in parts.files if part.samples == (sample,)])
        np.testing.assert_array_equal(views.reshape(complete.header.shape), complete.read(clip_file)[0])


def test_thirty_clips_of_pptsm_are_those_of_the_sample(annotations: Path, tmp_path: Path):
    recipe = load_recipe("pptsm_k400_dense", ["views.short_side=40", "views.crop_size=32"])
    complete = packed(recipe, annotations, tmp_path / "complete", limit=2)
    parts = packed(recipe, annotations, tmp_path / "parts", limit=2, per_view=True)
    assert (parts.header.views_per_sample, parts.header.shape) == (30, (8, 3, 32, 32))
    views = np.concatenate([parts.read(clip_file) for clip_file in parts.files])
    samples = np.concatenate([complete.read(clip_file) for clip_file in complete.files])
    np.testing.assert_array_equal(views.reshape(samples.shape), samples)


def test_packing_needs_the_memory_of_about_one_view(recipes: dict[str, Path], tmp_path: Path):
    many = ["views.num_segments=10", "views.clip_len=16", "views.short_side=64", "views.crop_size=64"]
    recipe = load_recipe(str(recipes["i3d"]), many)
    ann = tmp_path / "one.txt"
    ann.write_text("i3d_340x256 70 0\n")
    crops = read_clips(RawFrames(FRAMES / "i3d_340x256", 70), recipe.views).pixels.nbytes
    one_view = 4 * 3 * 16 * 64 * 64
    peaks = {}
    for per_view in (False, True):
        tracemalloc.start()
        packed(recipe, ann, tmp_path / str(per_view), per_view=per_view)
        peaks[per_view] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[False] > 30 * one_view
    # One view is in memory while the next is made; decoding and the rest take less than two more.
    assert peaks[True] < crops + 4 * one_view


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pack_words(recipe: Path, root: Path, annotations: Path, output: Path) -> Sequence[str]:
    words = ["-m", "preprocess.pack", "--per_view", "--recipe", str(recipe), "--data_root", str(root)]
    return [
        sys.executable,
        *words,
        "--ann_file",
        str(annotations),
        "--output_dir",
        str(output),
        "--workers",
        "1",
    ]


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(recipes: dict[str, Path], tmp_path: Path):
    links, ann = tmp_path / "root", tmp_path / "list.txt"
    links.mkdir()
    for number in range(40):
        (links / f"v{number}").symlink_to(FRAMES / "i3d_340x256")
    ann.write_text("".join(f"v{number} 70 {number % 7}\n" for number in range(40)))
    recipe = load_recipe(str(recipes["i3d"]))
    packed_by_one(
        recipe=recipe, data_root=links, ann_file=ann, output_dir=tmp_path / "complete", per_view=True
    )
    command = pack_words(recipes["i3d"], links, ann, tmp_path / "killed")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    clips = tmp_path / "killed" / "clips"
    # In the middle of a sample's views.
    while process.poll() is None and len(list(clips.glob("*.bin"))) < 3 * VIEWS + 2:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f" {40 * VIEWS} files to write" not in done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "complete")


def test_only_a_missing_view_is_written_again(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = load_recipe(str(recipes["tsm"]))
    store = packed(recipe, annotations, tmp_path / "s", per_view=True)
    before = contents(store.folder)
    (store.folder / "clips" / "000002v04.bin").unlink()
    with pytest.raises(BadDataError, match=r"000002v04\.bin.*is missing"):
        store.check_sizes()
    capsys.readouterr()
    packed(recipe, annotations, tmp_path / "s", per_view=True)
    assert f"; {VIEWS} files to write" in capsys.readouterr().err
    assert contents(store.folder) == before


def test_options_that_contradict_single_views_are_rejected(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path
):
    recipe = load_recipe(str(recipes["tsm"]))
    with pytest.raises(UsageError, match="contradicts --batch_size 4"):
        packed(recipe, annotations, tmp_path / "a", per_view=True, batch_size=4)
    single = ["views.crop=center", "views.twice_sample=false"]
    with pytest.raises(UsageError, match="a single view already"):
        packed(load_recipe(str(recipes["tsm"]), single), annotations, tmp_path / "b", per_view=True)
    with pytest.raises(UsageError, match="a single view already"):
        to_onnx(
            ["--recipe", str(recipes["tsm"]), "--checkpoint", "seeded:0", "--per_view", "-o", "m.onnx"]
            + [word for setting in single for word in ("--set", setting)]
        )
    assert not list(tmp_path.rglob("*.bin"))


def test_a_manifest_without_one_of_the_views_is_rejected(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path
):
    packed(load_recipe(str(recipes["tsm"])), annotations, tmp_path / "s", per_view=True)
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())

    def is_rejected(**changed: object) -> None:
        (tmp_path / "s" / "manifest.json").write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(BadDataError, match="is damaged"):
            ClipStore.open(tmp_path / "s")

    is_rejected(files=manifest["files"][1:])
    is_rejected(files=[{**manifest["files"][0], "view": 1}, *manifest["files"][1:]])
    is_rejected(average_clips="median")
    is_rejected(average_clips="")
    is_rejected(views_per_sample=10**12)
    is_rejected(views_per_sample=0)
    is_rejected(samples_per_file=2)
