"""`commands.sh`, run with stand-ins for ATC, ais_bench and the scorer, which compile and measure nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from lint_graphs import model_file
from stub_atc import StandIn

from export.to_om import main

GRAPH = "g (float[1,3] clips) => (float[1,3] y) { y = Relu(clips) }"
# Writes down its arguments and folder; with "m" it is ais_bench, otherwise the scorer.
PYTHON = """#!/bin/sh
# STAND-IN for a Python with ais_bench, and for the one that scores
echo "$PWD: $*" >> "$RECORD"
"""


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder as it is carried to another machine, with commands.sh in it."""
    StandIn(tmp_path / "standin").on_path(monkeypatch)
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


def test_the_script_runs_the_published_lines_in_order(carried: Path) -> None:
    done = run(carried)
    assert done.returncode == 0, done.stderr
    store = carried.parent / "store"
    assert (carried.parent / "record.txt").read_text().splitlines() == [
        f"{carried}: -m ais_bench --model tsm_bs1.om --input {store}/clips --output ./inference_result "
        "--output_dirname out --outfmt TXT --device 0",
        f"{carried}: /opt/vidom/postprocess/score.py --result_path=inference_result/out_summary.json "
        f"--info_path={store}/sthv2.info",
        f"{carried}: -m ais_bench --model=tsm_bs1.om --loop=20 --device=0",
    ]
    assert (carried / "tsm_bs1.om").exists()


def test_the_script_takes_the_model_under_its_second_name(carried: Path) -> None:
    (carried / "tsm_bs1.om").write_bytes(b"of an earlier run")
    (carried.parent / "standin" / "plan.json").write_text('{"behaviour": "second name"}')
    assert run(carried).returncode == 0
    assert (carried / "tsm_bs1.om").read_bytes() == b"OM of the stand-in"


def test_the_script_stops_where_a_step_fails(carried: Path) -> None:
    (carried.parent / "standin" / "plan.json").write_text('{"behaviour": "refuse", "lines": ["E10041: x"]}')
    done = run(carried)
    assert done.returncode == 255
    assert not (carried.parent / "record.txt").exists()


def test_the_script_says_what_it_lacks(carried: Path) -> None:
    done = run(carried, PATH="/usr/bin:/bin")
    assert done.returncode == 3
    assert "CANN toolkit" in done.stderr


def test_the_script_says_that_no_npu_was_used(carried: Path) -> None:
    assert "nothing in this file was measured on an NPU" in (carried / "commands.sh").read_text()
