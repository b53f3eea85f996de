"""`commands.sh`, run with stubs of ATC, ais_bench and the scorer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from lint_graphs import model_file
from stub_atc import StubAtc

from export.to_om import main

GRAPH = "g (float[1,3] clips) => (float[1,3] y) { y = Relu(clips) }"
# Records its arguments and folder; with "-m" it is ais_bench, otherwise the scorer.
PYTHON = """#!/bin/sh
# STUB of the Python of ais_bench and of the scorer
echo "$PWD: $*" >> "$RECORD"
"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a build folder as it is copied to a machine with CANN, with commands.sh in it."""
    StubAtc(tmp_path / "stub").on_path(monkeypatch)
    folder = tmp_path / "bs1"
    folder.mkdir()
    model_file(folder, GRAPH).rename(folder / "tsm_new_bs1.onnx")
    model, output = str(folder / "tsm_new_bs1.onnx"), str(folder / "tsm_bs1")
    main(["--model", model, "--output", output, "--soc_version", "310P3", "--dry_run"])
    (tmp_path / "store" / "clips").mkdir(parents=True)
    (tmp_path / "store" / "sthv2.info").write_text("0 1\n")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return folder


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    home = folder.parent
    settings = {
        "STORE": str(home / "store"),
        "VIDOM": "/opt/vidom",
        "PYTHON": str(home / "python"),
        "AIS_PYTHON": str(home / "python"),
        "RECORD": str(home / "record.txt"),
    }
    return subprocess.run(
        ["bash", str(folder / "commands.sh")],
        env={**os.environ, **settings, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_script_runs_the_published_lines_in_order(build: Path) -> None:
    done = run(build)
    assert done.returncode == 0, done.stderr
    store = build.parent / "store"
    assert (build.parent / "record.txt").read_text().splitlines() == [
        f"{build}: -m ais_bench --model tsm_bs1.om --input {store}/clips --output ./inference_result "
        "--output_dirname out --outfmt TXT --device 0",
        f"{build}: /opt/vidom/postprocess/score.py --result_path=inference_result/out_summary.json "
        f"--info_path={store}/sthv2.info",
        f"{build}: -m ais_bench --model=tsm_bs1.om --loop=20 --device=0",
    ]
    assert (build / "tsm_bs1.om").exists()


def test_the_script_renames_a_model_with_the_host_in_its_name(build: Path) -> None:
    (build / "tsm_bs1.om").write_bytes(b"of an earlier run")
    (build.parent / "stub" / "plan.json").write_text('{"behaviour": "second name"}')
    assert run(build).returncode == 0
    assert (build / "tsm_bs1.om").read_bytes() == b"OM of the stub"


def test_the_script_stops_where_a_step_fails(build: Path) -> None:
    (build.parent / "stub" / "plan.json").write_text('{"behaviour": "reject", "lines": ["E10041: x"]}')
    done = run(build)
    assert done.returncode == 255
    assert not (build.parent / "record.txt").exists()


def test_the_script_reports_a_missing_toolkit(build: Path) -> None:
    done = run(build, PATH="/usr/bin:/bin")
    assert done.returncode == 3
    assert "CANN toolkit" in done.stderr


def test_the_script_states_that_no_npu_was_used(build: Path) -> None:
    assert "nothing in this file was measured on an NPU" in (build / "commands.sh").read_text()
