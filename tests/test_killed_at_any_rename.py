"""A command that is killed just before or after any of its renames, run again, ends as if it had never been killed.

One that is started while another is in the same folder is refused, and the other ends as if it had been alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import killed_at_renames
import pytest
from ascend_bench import set_up
from evaluation_cases import sum_model, write_list, write_recipe
from small_videos import write_video
from stub_atc import StubAtc, arguments, build_folder

from vidom.files import TEMP_SUFFIX

ROOT = Path(__file__).parents[1]
MAIN = {"infer": "infer.__main__"}
CPU = ("--engine", "onnxruntime")
# Of a file that holds times, what does not depend on them.
TIMELESS: dict[str, Callable[[bytes], object]] = {
    "r_summary.json": lambda text: sorted(json.loads(text)["filesinfo"]),
    "r_vidom.json": lambda text: sorted(json.loads(text)),
    "r_ais_bench.log": lambda text: text != b"",
    "evaluation.json": lambda text: json.loads(text)["evaluated"],
    "build.json": lambda text: re.sub(rb'"seconds": [0-9.]+', b"", text),
}


@pytest.fixture(scope="module")
def environ() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path, environ: pytest.MonkeyPatch
) -> Mapping[str, tuple[str, ...]]:
    """Module and words of each command; {out} stands for its output folder."""
    folder = tmp_path_factory.mktemp("inputs")
    recipe = write_recipe(folder)
    write_list(folder / "list.txt", 2)
    sum_model(folder / "m.onnx", 1)
    for number in range(2):
        write_video(folder / "src" / "val" / "a" / f"{number}.mp4", frames=3)
    atc = StubAtc(folder / "atc")
    bench = set_up(folder, environ)
    environ.setenv("PATH", f"{atc.folder}:/usr/bin:/bin")
    environ.setenv("PYTHONPATH", f"{ROOT}:{bench.packages}")
    bench.model(1)
    clips = folder / "in"
    clips.mkdir()
    for number in range(2):
        (clips / f"video_{number}.bin").write_bytes(bytes(16))
    build = build_folder(folder)
    listed = ("--data_root", folder / "data", "--ann_file", folder / "list.txt")
    videos = ("--recipe", recipe, *listed, "--workers", "1", "--output_dir", "{out}")
    network = ("--recipe", tiny_recipe, "--checkpoint", "seeded:0")
    run = ("--output", "{out}", "--output_dirname", "r")
    given: dict[str, tuple[str | Path, ...]] = {
        "data": ("preprocess.prepare", "--dataset", "folder", "--src", folder / "src", "--out", "{out}",
                 "--workers", "1"),
        "audit": ("preprocess.audit", *listed, "--report", "{out}/audit.json"),
        "pack": ("preprocess.pack", *videos),
        "lay out": ("preprocess.layout_310", "--store", folder / "store", "--output_dir", "{out}"),
        "to_onnx": ("export.to_onnx", *network, "--output", "{out}/m.onnx"),
        "modify_onnx": ("export.modify_onnx", "-m1", "{out}/m.onnx", "-m2", "{out}/n.onnx"),
        "verify": ("export.verify", *network, "--model", "{out}/m.onnx"),
        "om": ("export.to_om", *arguments(build)[:2], "--output", "{out}/tsm_bs8.om", *arguments(build)[4:]),
        "infer": ("infer", "--model", folder / "m.onnx", *CPU, "--input", folder / "store" / "clips", *run),
        "infer on an NPU": ("infer", "--model", folder / "m.om", "--engine", "ascend", "--input", clips,
                            *run, "--outfmt", "NPY"),
        "evaluate": ("infer.evaluate", *videos, "--model", folder / "m.onnx", *CPU),
        "compare": ("infer.evaluate", *videos, "--model", folder / "m.onnx", *CPU,
                    "--compare", folder / "reference"),
        "score": ("postprocess.score", "--result_path", "{out}/r", "--info_path",
                  folder / "store" / "sums.info", "--num_classes", "7"),
        "generate": ("demo.generate", "--output_dir", "{out}", "--train_clips", "0", "--validation_clips", "1",
                     "--workers", "1"),
    }  # fmt: skip
    words = {name: tuple(map(str, command)) for name, command in given.items()}
    run_here(words["pack"], folder / "store")
    run_here(words["evaluate"], folder / "reference")
    return words


def run_here(command: tuple[str, ...], out: Path) -> None:
    module, *words = (word.replace("{out}", str(out)) for word in command)
    import_module(MAIN.get(module, module)).main(words)


def content(folder: Path) -> dict[str, object]:
    """What each file holds, with {out} in the place of the folder's name; of those that hold times, the rest."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().replace(str(folder).encode(), b"{out}")
            found[str(path.relative_to(folder))] = TIMELESS.get(path.name, bytes)(text)
    return found


# What is there before the command starts.
EARLIER = {
    "score": "infer",
    "infer on an NPU": "infer on an NPU",
    "modify_onnx": "to_onnx",
    "verify": "to_onnx",
}
# It writes a single file.
UNLOCKED = ("audit",)
# Each of their runs takes seconds.
ONCE = ("to_onnx", "modify_onnx", "verify")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [("data", 6), ("audit", 1), ("pack", 5), ("lay out", 3), ("to_onnx", 2), ("modify_onnx", 2), ("verify", 1),
     ("om", 3), ("infer", 4),
     ("infer on an NPU", 6), ("evaluate", 3), ("compare", 4), ("score", 1), ("generate", 16)],
)  # fmt: skip
def test_nothing_is_left_and_nothing_lacks(
    name: str, least: int, commands: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / "start").mkdir(mode=0o750)
    if name in EARLIER:
        run_here(commands[EARLIER[name]], tmp_path / "start")
    module, *words = commands[name]
    moments = "before" if name in ONCE else "before,after"
    argv = [
        sys.executable,
        killed_at_renames.__file__,
        str(tmp_path),
        moments,
        MAIN.get(module, module),
        *words,
    ]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, two, *runs = map(json.loads, done.stdout.splitlines())
    assert whole["code"] == 0, (tmp_path / "whole.log").read_text()
    assert whole["renames"] >= least and runs
    truth = content(tmp_path / "whole")
    assert not [path for path in truth if path.endswith((TEMP_SUFFIX, ".lock"))]
    assert two["first"] == 0 and content(tmp_path / "twice") == truth
    assert two["second"] == (0 if name in UNLOCKED else 3)
    assert name in UNLOCKED or f"Process {two['pid']} is working in" in (tmp_path / "second.log").read_text()
    for one in runs:
        assert one["killed"] == -9
        assert one["code"] == 0, (tmp_path / f"{one['folder']}.log").read_text()
        assert content(tmp_path / one["folder"]) == truth, one
