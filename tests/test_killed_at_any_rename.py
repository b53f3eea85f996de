"""A command that is killed just before or after any of its renames, run again, ends as if it had never been killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from preprocess.pack import PackOptions, pack
from vidom.files import TEMP_SUFFIX
from vidom.formats.recipe import load_recipe

ROOT = Path(__file__).parents[1]
SAMPLES = 2
# argv: at which rename it is killed, whether after it, the module and its words
KILLED = """
import os, runpy, signal, sys
_, left, after, *sys.argv = sys.argv
left, rename = int(left), os.replace
def replace(*places):
    global left
    left -= 1
    if not left and after == "before": os.kill(os.getpid(), signal.SIGKILL)
    rename(*places)
    if not left: os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of videos, a model for them, and their clip store."""
    from evaluation_cases import sum_model, write_list, write_recipe

    folder = tmp_path_factory.mktemp("inputs")
    recipe = write_recipe(folder)
    write_list(folder / "list.txt", SAMPLES)
    sum_model(folder / "m.onnx", 1)
    pack(
        PackOptions(
            recipe=load_recipe(str(recipe)), data_root=folder / "data", ann_file=folder / "list.txt",
            output_dir=folder / "store", workers=1,
        )
    )  # fmt: skip
    return folder


def words(command: str, inputs: Path, out: Path) -> tuple[str, ...]:
    videos = (
        "--recipe", inputs / "sums.yaml", "--data_root", inputs / "data", "--ann_file", inputs / "list.txt",
        "--workers", "1", "--output_dir", out,
    )  # fmt: skip
    model = ("--model", inputs / "m.onnx", "--engine", "onnxruntime")
    given: Mapping[str, tuple[str | Path, ...]] = {
        "pack": ("preprocess.pack", *videos),
        "infer": ("infer", *model, "--input", inputs / "store" / "clips", "--output", out, "--output_dirname", "r"),
        "evaluate": ("infer.evaluate", *videos, *model),
        "score": ("postprocess.score", "--result_path", out / "r", "--info_path", inputs / "store" / "sums.info",
                  "--num_classes", "7"),
    }  # fmt: skip
    return tuple(map(str, given[command]))


def killed_at(rename: int, moment: str, command: tuple[str, ...]) -> int:
    argv = [sys.executable, "-c", KILLED, str(rename), moment, *command]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, check=False).returncode


def run(command: tuple[str, ...]) -> None:
    module, *argv = command
    import_module("infer.__main__" if module == "infer" else module).main(argv)


def content(folder: Path) -> dict[str, object]:
    """The bytes of every file; of those that hold times, only what does not depend on them."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name == "r_summary.json":
            found[name] = json.loads(path.read_text())["filesinfo"].keys()
        elif name == "evaluation.json":
            found[name] = json.loads(path.read_text())["evaluated"]
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "renames"), [("pack", 3 + SAMPLES), ("infer", 2 + SAMPLES), ("evaluate", 3), ("score", 1)]
)
def test_nothing_is_left_and_nothing_lacks(command: str, renames: int, inputs: Path, tmp_path: Path) -> None:
    start, whole = tmp_path / "start", tmp_path / "whole"
    start.mkdir()
    if command == "score":
        run(words("infer", inputs, start))
    shutil.copytree(start, whole)
    assert killed_at(renames + 1, "before", words(command, inputs, whole)) == 0
    truth = content(whole)
    for number in range(1, renames + 1):
        for moment in ("before", "after"):
            killed = tmp_path / f"{number}_{moment}"
            shutil.copytree(start, killed)
            assert killed_at(number, moment, words(command, inputs, killed)) == -9
            left = {name for name in content(killed) if name.endswith(TEMP_SUFFIX)}
            assert len(left) == (moment == "before")
            run(words(command, inputs, killed))
            assert content(killed) == truth
