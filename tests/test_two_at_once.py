"""Of two commands in one folder the second ends with exit code 3 and names the first; nothing is written by it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from held_folder import held_folder

ROOT = Path(__file__).parents[1]
MODEL = ("--recipe", "tsm_sthv2", "--checkpoint", "seeded:0")

# module, its words, and the folder in which the first command works
COMMANDS = {
    "prepare": (("preprocess.prepare", "--dataset", "folder", "--src", ".", "--out", "out"), "out"),
    "pack": (
        ("preprocess.pack", "--recipe", "tsm_sthv2", "--data_root", ".", "--ann_file", "a", "--output_dir", "out"),
        "out",
    ),
    "lay out": (("preprocess.layout_310", "--store", "s", "--output_dir", "out"), "out"),
    "infer": (
        ("infer", "--model", "m.onnx", "--engine", "onnxruntime", "--output", "o", "--output_dirname", "r"),
        "o/r",
    ),
    "evaluate": (
        ("infer.evaluate", "--recipe", "tsm_sthv2", "--data_root", ".", "--ann_file", "a", "--model", "m.onnx",
         "--output_dir", "out"),
        "out",
    ),
    "score": (("postprocess.score", "--result_path", "o/r_summary.json"), "o/r"),
    "score a folder": (("postprocess.score", "--result_path", "o/r"), "o/r"),
    "to_onnx": (("export.to_onnx", *MODEL, "--output", "b/m.onnx"), "b"),
    "modify_onnx": (("export.modify_onnx", "-m1", "b/m.onnx", "-m2", "b/n.onnx"), "b"),
    "to_om": (("export.to_om", "--model", "b/n.onnx", "--output", "b/n.om", "--dry_run"), "b"),
    "verify": (("export.verify", *MODEL, "--model", "b/m.onnx"), "b"),
    "export": (
        ("export.build", *MODEL, "--exported", "b/m.onnx", "--optimized", "b/n.onnx", "--om", "b/n.om"),
        "b",
    ),
    "bench": (("benchmarks.batch_table", *MODEL, "--batches", "1", "--output_dir", "out"), "out"),
    "a benchmark": (("benchmarks.surgery", "--output_dir", "out"), "out"),
    "demo": (("demo", "--output_dir", "out"), "out"),
    "demo-train": (("demo.train_networks", "--recipe", "tsm_demo", "--output_dir", "out"), "out"),
    "generate": (("demo.generate", "--output_dir", "out"), "out"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_command_names_the_first(name: str, tmp_path: Path) -> None:
    words, place = COMMANDS[name]
    (tmp_path / "m.onnx").write_bytes(b"")
    with held_folder(tmp_path / place) as holder:
        before = sorted(tmp_path.rglob("*"))
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert sorted(tmp_path.rglob("*")) == before
    assert done.returncode == 3, done.stderr
    text = " ".join(done.stderr.split())
    assert f"Process {holder.pid} is working in {place}." in text or f"working in {tmp_path / place}." in text
    assert "Traceback" not in text and "elete" not in text


def test_runs_of_different_names_share_their_folder(tmp_path: Path, fixtures: Path) -> None:
    results = fixtures / "attacks" / "score_json_int5000"
    with held_folder(tmp_path / "o" / "other"):
        shutil.copytree(results / "res", tmp_path / "o" / "r")
        (tmp_path / "x.info").write_text("".join(f"{n} {n}\n" for n in range(6)))
        from postprocess.score import ScoreOptions, score

        done = score(ScoreOptions(result_path=tmp_path / "o" / "r", info_path=tmp_path / "x.info"))
    assert done.metrics.n == 6
