from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ais_answers import answer
from cann_machine import set_up_cann
from stub_programs import program

from vidom.doctor.__main__ import NOTE, Report, doctor, main
from vidom.doctor.stages import Outlook, judge, stages
from vidom.doctor.table import rows_of
from vidom.errors import UnavailableError
from vidom.system.machine import look_at_machine

REPOSITORY = Path(__file__).resolve().parents[2]
ASCEND = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH", "AIS_PYTHON", "CANN_PYTHON")
# Refuses whatever is neither ours nor part of Python, as on a machine where nothing is installed.
NOTHING_INSTALLED = """
import runpy, sys
OWN = {"vidom", "demo", "train", "preprocess", "export", "infer", "postprocess"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in OWN and top not in sys.stdlib_module_names:
            raise ImportError("not installed: " + name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["vidom.doctor", "--json"]
runpy.run_module("vidom.doctor", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests start from a machine without anything of Ascend's, whatever this one has."""
    for variable in ASCEND:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def ascend_machine(tmp_path: Path, fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stubs of npu-smi, atc, CANN, ais_bench and onnxruntime-cann, all found by this environment."""
    table = fixtures / "ascend" / "npu_smi" / "real_310P3_duo_25.0.rc1.1.txt"
    program(tmp_path / "bin" / "npu-smi", f"cat {table}")
    program(tmp_path / "bin" / "atc", "exit 1")
    program(tmp_path / "bin" / "python-ais", f"cat <<'END'\n{answer()}END")
    home = tmp_path / "ascend-toolkit" / "latest"
    home.mkdir(parents=True)
    (home / "version.cfg").write_text("toolkit_running_version=[7.3.0.1.231:8.0.RC2]\n")
    (home.parent / "set_env.sh").write_text("# stub\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(home))
    monkeypatch.setenv("AIS_PYTHON", "python-ais")
    set_up_cann(tmp_path, monkeypatch)
    return tmp_path


def outlook(report: Report, stage: str) -> Outlook:
    return next(found for found in report.outlooks if found.stage.name == stage)


def verdicts(report: Report) -> dict[str, str]:
    return {row.topic: row.verdict for row in report.rows}


def stage(name: str) -> Any:
    return next(stage for stage in stages() if stage.name == name)


def command(*arguments: str, code: int, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [
        sys.executable,
        *python,
        *(arguments if "-c" in arguments else ("-m", "vidom.doctor", *arguments)),
    ]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_with_all_stubs_every_stage_is_possible(ascend_machine: Path) -> None:
    report = doctor()
    # OpenVINO is optional: without it, its stage alone is impossible, with the command that installs it.
    missing = {found.stage.name: found.remedies for found in report.outlooks if not found.possible}
    if importlib.util.find_spec("openvino") is None:
        (remedy,) = missing.pop("infer-openvino")
        assert re.search(r"-m pip install .*openvino", remedy)
    assert missing == {}
    document = report.document()
    assert [(card["id"], card["chip"], card["soc_version"]) for card in document["cards"]] == [
        (6, 0, "Ascend310P3"),
        (6, 1, "Ascend310P3"),
    ]
    assert (document["cann"]["version"], document["cann"]["sourced"]) == ("8.0.RC2", True)
    assert document["atc"] == str(ascend_machine / "bin" / "atc")
    assert document["ais_bench"]["aclruntime"] == "0.0.2"
    assert document["cann_onnx_runtime"]["version"] == "1.24.4"


def test_without_ascend_the_onnxruntime_stages_stay_possible(tmp_path: Path) -> None:
    report = doctor(environ={"HOME": str(tmp_path), "PATH": ""})
    possible = {found.stage.name for found in report.outlooks if found.possible}
    assert {"preprocess", "export", "infer-onnxruntime", "score", "demo"} <= possible
    assert not {"om", "infer-ascend", "infer-cann"} & possible
    assert verdicts(report)["npu-smi"] == "missing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "stage_name", "line"),
    [
        ("rm bin/npu-smi", "infer-ascend", "npu-smi is not on PATH"),
        (
            "echo '#!/bin/sh\nsleep 600' > bin/npu-smi",
            "infer-ascend",
            "had not ended",
        ),
        ("echo '#!/bin/sh\nexit 3' > bin/npu-smi", "infer-ascend", "ended with code 3"),
        ("rm bin/atc", "om", "install the CANN toolkit"),
        (
            "rm bin/atc; mkdir -p ascend-toolkit/latest/bin; touch ascend-toolkit/latest/bin/atc",
            "om",
            "source ",
        ),
        ("rm bin/python-ais", "infer-ascend", "AIS_PYTHON=python-ais is not an executable program"),
        ("echo '#!/bin/sh\nexit 3' > bin/python-ais", "infer-ascend", "AIS_PYTHON"),
        ("rm python-cann", "infer-cann", "is not an executable program"),
        ("echo '#!/bin/sh\nexit 3' > python-cann", "infer-cann", "Is CANN_PYTHON a Python?"),
        ("rm lib/libascendcl.so", "infer-cann", "set_env.sh  (not found: libascendcl.so)"),
    ],
)
def test_each_missing_piece_is_named_by_the_stage_that_needs_it(
    ascend_machine: Path, broken: str, stage_name: str, line: str
) -> None:
    subprocess.run(["/bin/sh", "-c", broken], cwd=ascend_machine, check=True)
    found = outlook(doctor(seconds=2), stage_name)
    assert not found.possible
    assert any(line in remedy for remedy in found.remedies)


def test_an_onnxruntime_without_cann_is_no_onnxruntime_cann(monkeypatch: pytest.MonkeyPatch) -> None:
    report = doctor()
    (row,) = [row for row in report.rows if row.topic == "onnxruntime-cann"]
    assert (row.verdict, row.found) == ("missing", f"absent ({sys.executable})")
    assert any("pip install onnxruntime-cann" in line for line in outlook(report, "infer-cann").remedies)


def test_torch_npu_is_reported_with_what_it_lacks(ascend_machine: Path) -> None:
    findings = doctor().findings
    assert "torch-npu" not in {row.topic for row in rows_of(findings)}
    present = replace(findings, torch_npu="2.13.0")
    for found, verdict, words in (
        (present, "pass", "for train and infer-torch on an NPU"),
        (replace(present, cann=None), "warn", "cannot be imported: CANN is absent"),
    ):
        (row,) = [row for row in rows_of(found) if row.topic == "torch-npu"]
        assert (row.verdict, row.found) == (verdict, "2.13.0") and words in row.remark
        assert judge(stage("export"), found).possible


def test_a_cann_that_is_not_sourced_is_told_to_be(ascend_machine: Path) -> None:
    findings = doctor().findings
    assert findings.cann is not None
    idle = replace(findings, cann=replace(findings.cann, found_by="default folder"), atc=None)
    script = ascend_machine / "ascend-toolkit" / "set_env.sh"
    for name in ("om", "infer-ascend", "infer-cann"):
        assert judge(stage(name), idle).remedies == (f"source {script}",)


@pytest.mark.parametrize(
    ("umask", "fits"), [(0o022, True), (0o077, True), (0o002, False), (0o020, False), (0, False)]
)
def test_an_umask_that_lets_others_write_stops_ais_bench(
    ascend_machine: Path, umask: int, fits: bool
) -> None:
    os.umask(umask)
    report = doctor()
    assert look_at_machine(Path.cwd()).umask == umask
    assert verdicts(report)["umask"] == ("pass" if fits else "warn")
    assert [remedy[:9] for remedy in outlook(report, "infer-ascend").remedies] == (
        [] if fits else ["umask 027"]
    )


def test_a_unhealthy_or_unknown_npu_warns_and_a_missing_one_asks_for_soc(ascend_machine: Path) -> None:
    findings = doctor().findings
    sick = replace(findings, npus=(replace(findings.npus[0], health="Alarm"),))
    assert judge(stage("infer-ascend"), sick).remarks == ("NPU 6 chip 0 reports health Alarm",)
    bare = replace(findings, npus=(), npu_problem="npu-smi is not on PATH.")
    om = judge(stage("om"), bare)
    assert om.possible and "SOC=310P3" in om.remarks[0]


def test_the_table_is_aligned_and_says_that_no_npu_was_measured(
    ascend_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == NOTE and "No model was run" in NOTE
    column = lines[0].index("status")
    words = [line[column:].split()[0] for line in lines[1:-2] if line[:column].strip()]
    assert set(words) <= {"pass", "warn", "missing", "status"}
    assert len(words) == len(doctor().rows) + 1 + len(stages())
    absent = sum(importlib.util.find_spec(package) is None for package in ("openvino", "accelerate"))
    assert sum("possible here" in line for line in lines) == len(stages()) - absent


def test_need_raises_lacking_after_the_table_and_only_for_what_is_named(
    ascend_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ascend_machine / "bin" / "atc").unlink()
    assert main(["--need", "score", "infer_onnxruntime"]) is None
    with pytest.raises(UnavailableError, match="om, which needs: install the CANN toolkit"):
        main(["--need", "om", "score", "--json"])
    assert '"stage": "om"' in capsys.readouterr().out


def test_exit_codes_of_the_command() -> None:
    document = json.loads(command("--json", "--need", "score", code=0).stdout)
    assert document["schema"] == 1 and document["note"] == NOTE
    assert {entry["stage"] for entry in document["stages"]} == {found.name for found in stages()}
    told = command("--need", "infer-ascend", code=3)
    assert "Not possible here: infer-ascend" in told.stderr and "status" in told.stdout
    assert "invalid choice" in command("--need", "fly", code=2).stderr


def test_it_runs_where_nothing_is_installed() -> None:
    document = json.loads(command("-c", NOTHING_INSTALLED, code=0).stdout)
    assert len(document["stages"]) == len(stages())
    bare = command("--need", "score", code=3, python=("-S",))
    assert "make setup" in bare.stderr


@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_an_old_python_is_told_what_it_lacks(version: str) -> None:
    found = [
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/python"),
        *Path("/usr/bin").glob(f"python{version}"),
    ]
    if not found:
        pytest.skip(f"needs a Python {version}")
    told = subprocess.run(
        [str(found[0]), "-B", "-m", "vidom.doctor", "--need", "score"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 3
    assert "PYTHON=python3.10" in told.stderr
