from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vidom.doctor.__main__ import doctor
from vidom.doctor.stages import Findings, Stage, judge, stages
from vidom.system.requirements import parse_requirement

REPOSITORY = Path(__file__).resolve().parents[2]
# Imports a module while every package that the project declares, but for those given, is refused.
IMPORT_WITH = """
import importlib, sys
module, refused = sys.argv[1], set(sys.argv[2:])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError("not installed: " + name)
sys.meta_path.insert(0, Refuse())
importlib.import_module(module)
"""
IMPORTED_AS = {"opencv-python-headless": "cv2", "pyyaml": "yaml", "onnx-ir": "onnx_ir"}


@pytest.fixture(scope="module")
def findings() -> Findings:
    """The findings of the doctor on this machine, without all that Ascend adds."""
    found = doctor(environ={"PATH": ""})
    return replace(found.findings, npus=(), npu_problem="npu-smi is not on PATH.", cann=None, atc=None)


def stage(name: str) -> Stage:
    return next(stage for stage in stages() if stage.name == name)


def test_a_package_too_old_or_absent_is_one_line_for_pip(findings: Findings) -> None:
    packages = {**findings.packages, "numpy": "1.26.4", "pyyaml": None}
    assert judge(stage("preprocess"), replace(findings, packages=packages)).remedies == (
        f'{findings.executable} -m pip install "numpy>=2.0" "pyyaml>=6.0"',
    )


def test_before_setup_every_stage_but_setup_needs_make_setup(findings: Findings) -> None:
    bare = replace(findings, requirements=None)
    first = {found.name: judge(found, bare).remedies[:1] for found in stages()}
    assert first == {found.name: () if found.name == "setup" else ("make setup",) for found in stages()}


def test_an_old_python_stops_every_stage(findings: Findings) -> None:
    old = replace(findings, python_fits=False)
    assert all("PYTHON=" in judge(found, old).remedies[0] for found in stages())


def test_a_python_without_venv_cannot_set_up(findings: Findings) -> None:
    assert "python3-venv" in judge(stage("setup"), replace(findings, can_make_venv=False)).remedies[0]


def test_the_stages_together_need_exactly_what_the_project_declares() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    declared = {parse_requirement(line).name for line in re.findall(r'"([^"]+)"', block.group(1))}
    optional = {
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "setuptools",
        "ruff",
        "mypy",
        "openvino",
        "accelerate",
    }
    # argcomplete serves shells only.
    assert {name for found in stages() for name in found.packages} - optional == declared - {"argcomplete"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("score", "postprocess.score"),
        ("infer-onnxruntime", "infer.inference"),
        ("infer-openvino", "infer.inference"),
        ("preprocess", "preprocess.pack"),
    ],
)
def test_a_stage_starts_with_its_packages_alone(name: str, module: str) -> None:
    every = {package for found in stages() for package in found.packages}
    refused = [IMPORTED_AS.get(package, package) for package in every - set(stage(name).packages)]
    subprocess.run(
        [sys.executable, "-c", IMPORT_WITH, module, *refused], cwd=REPOSITORY, check=True, timeout=60
    )
