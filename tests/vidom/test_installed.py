"""What `pip install .` installs, and that running a built model needs no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYNTH = ROOT / "tests" / "fixtures" / "synth"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tracked files, so that nothing is left in the checkout."""
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    (copy / "om_models" / "build" / "x").mkdir(parents=True)
    (copy / "om_models" / "build" / "x" / "model.onnx").write_bytes(b"x")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        ".",
    ]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_packages_recipes_labels_and_the_command(wheel: Path):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(
            archive.read(name).decode() for name in names if name.endswith("entry_points.txt")
        )
    assert "vidom = vidom.cli:console" in entry_points
    for folder in ("om_models/*.yaml", "om_models/labels/*.txt", "demo/checkpoints/*.pth"):
        expected = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(folder)}
        assert expected
        assert expected <= names
    sources = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {name for name in sources.stdout.split() if not name.startswith("tests/")} <= names
    assert not [name for name in names if name.startswith(("tests/", "run/", "om_models/build/"))]


@pytest.mark.slow
def test_the_installed_command_works_outside_the_checkout(wheel: Path, tmp_path: Path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(*words: str) -> str:
        # -S would lose the dependencies: the extracted wheel comes before the checkout on the path.
        done = subprocess.run(
            [sys.executable, "-m", "vidom.cli", *words],
            cwd=work,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "tsm_sthv2:" in run("models")
    assert "PASSED" in run("export", "tsm_demo", "--checkpoint", "seeded:0")
    lines = [f"{folder.name} {len(list(folder.glob('img_*')))} 0" for folder in sorted(SYNTH.iterdir())[:2]]
    (work / "list.txt").write_text("\n".join(lines) + "\n")
    run("preprocess", "tsm_demo", "--data_root", str(SYNTH), "--ann_file", "list.txt")
    run("infer", "tsm_demo")
    assert "top1_acc" in run(
        "score", "tsm_demo", "--info_path", next((work / "run/tsm_demo/store").glob("*.info")).as_posix()
    )
    assert (work / "om_models/build/tsm_demo/bs1/tsm_demo_new_bs1.onnx").is_file()
    assert not list(site.glob("om_models/build"))


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
from vidom.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_running_and_scoring_a_model_needs_no_torch(tmp_path: Path):
    def run(*words: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        program = WITHOUT_TORCH.replace("{blocked}", repr(blocked))
        return subprocess.run(
            [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    export = run("export", "tsm_demo", "--checkpoint", "seeded:0", blocked=())
    assert export.returncode == 0, export.stderr
    assert run("export", "tsm_demo", "--checkpoint", "seeded:0", blocked=("torch",)).returncode != 0
    (folder,) = sorted(SYNTH.iterdir())[:1]
    (tmp_path / "list.txt").write_text(f"{folder.name} {len(list(folder.glob('img_*')))} 0\n")
    listed = ["--data_root", str(SYNTH), "--ann_file", "list.txt"]
    for words, blocked in (
        (["preprocess", "tsm_demo", *listed], ("torch", "onnx", "onnxruntime")),
        (["infer", "tsm_demo"], ("torch", "onnx_ir", "onnxscript")),
        (["evaluate", "tsm_demo", *listed], ("torch", "onnx_ir", "onnxscript")),
        (["score", "tsm_demo"], ("torch", "onnx", "onnxruntime", "av", "cv2", "PIL")),
    ):
        done = run(*words, blocked=blocked)
        assert done.returncode == 0, done.stderr
