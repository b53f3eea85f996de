"""What libraries do besides their work: no usage data, nothing below HOME, no back end that nobody asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from ray_preparation import write_source

REPOSITORY = Path(__file__).resolve().parents[1]
_LIBRARIES = ("ORT_", "RAY_", "TORCH_", "CI", "TF_BUILD", "JENKINS_", "XDG_")


def run(
    words: Sequence[str], home: Path, *, under: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter for a user who has set none of the libraries' variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_LIBRARIES)}
    return subprocess.run(
        [*under, sys.executable, "-B", *words],
        cwd=REPOSITORY,
        env={**inherited, "HOME": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def stages(folder: Path, recipe: Path) -> list[list[str]]:
    """Return the commands that run torch, ONNX Runtime and, if it is installed, OpenVINO."""
    model, modified = str(folder / "m.onnx"), str(folder / "m_new.onnx")
    engines = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]
    return [
        ["export/to_onnx.py", "--recipe", str(recipe), "--checkpoint", "seeded:0", "-o", model],
        ["export/modify_onnx.py", "-m1", model, "-m2", modified],
        *(["-m", "infer", "--model", modified, "--engine", name] for name in engines),
    ]


def test_home_stays_empty_and_no_internet_socket_is_opened(tmp_path: Path, tiny_recipe: Path):
    home, trace = tmp_path / "home", tmp_path / "sockets.txt"
    home.mkdir()
    strace = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", str(trace)] if shutil.which("strace") else []
    for words in stages(tmp_path, tiny_recipe):
        ended = run(words, home, under=strace)
        assert ended.returncode == 0, ended.stderr
        assert sorted(home.rglob("*")) == []
        assert not strace or "AF_INET" not in trace.read_text()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_the_trace_shows_a_socket_where_there_is_one(tmp_path: Path):
    trace = tmp_path / "sockets.txt"
    run(
        ["-c", "import socket; socket.socket()"],
        tmp_path,
        under=["strace", "-f", "-qq", "-e", "trace=socket", "-o", str(trace)],
    )
    assert "AF_INET" in trace.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_ray_on_this_machine_connects_to_this_machine_only(tmp_path: Path):
    pytest.importorskip("ray", reason="needs ray: make extras")
    source, home, trace = write_source(tmp_path / "src", 8), tmp_path / "home", tmp_path / "connections.txt"
    home.mkdir()
    ended = run(
        [
            *("preprocess/prepare.py", "--dataset", "folder", "--src", str(source)),
            *("--out", str(tmp_path / "out"), "--ray", "--workers", "2"),
        ],
        home,
        under=["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(trace)],
    )
    assert ended.returncode == 0, ended.stderr
    called = re.findall(r'AF_INET.*?"([^"]+)"', trace.read_text())
    assert "127.0.0.1" in called
    assert set(called) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert sorted(home.rglob("*")) == []


@pytest.fixture
def site_with_torch_npu(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a torch-npu that, as the real one, cannot be imported without CANN."""
    info = tmp_path / "site" / "torch_npu-2.13.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch-npu\nVersion: 2.13.0\n")
    (info / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    (info.parent / "torch_npu.py").write_text(
        "raise ImportError('libhccl.so: cannot open shared object file: No such file or directory')\n"
    )
    return info.parent


def test_the_stub_of_torch_npu_breaks_torch_as_the_real_one_does(tmp_path: Path, site_with_torch_npu: Path):
    ended = run(["-c", "import torch"], tmp_path, PYTHONPATH=str(site_with_torch_npu))
    assert "Failed to load the backend extension: torch_npu" in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["export/verify.py"],
        ["-m", "demo.train_networks"],
        ["-m", "vidom.cli", "export"],
        pytest.param(["-m", "export.verify"], marks=pytest.mark.slow),
        pytest.param(["-m", "benchmarks.inference"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_torch_npu_without_cann_ends_no_command(tmp_path: Path, site_with_torch_npu: Path, words: list[str]):
    ended = run([*words, "--help"], tmp_path, PYTHONPATH=str(site_with_torch_npu))
    assert ended.returncode == 0, ended.stderr


def test_variables_of_the_user_stay(tmp_path: Path):
    show = ["-c", "import os, vidom; print(os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'])"]
    assert run(show, tmp_path).stdout == "0\n"
    assert run(show, tmp_path, TORCH_DEVICE_BACKEND_AUTOLOAD="1").stdout == "1\n"
