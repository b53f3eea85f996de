from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ais_answers import DASHES, OTHER_PROGRAM, UNDERSCORES, answer
from stub_programs import program

from vidom.errors import ExternalToolError, UnavailableError, UsageError
from vidom.system.ais_bench_probe import probe_ais_bench


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def environ_with(folder: Path, **variables: str) -> dict[str, str]:
    """This process's environment with `folder` before the installed packages."""
    return {**os.environ, "PYTHONPATH": str(folder), "AIS_PYTHON": sys.executable, **variables}


def package(folder: Path, main: str, **modules: str) -> None:
    """Write a package ais_bench whose `__main__` is this program."""
    (folder / "ais_bench" / "infer").mkdir(parents=True)
    for name, body in {"__main__": main, **modules}.items():
        (folder / "ais_bench" / f"{name.replace('_in_', '/')}.py").write_text(body)


def test_versions_are_what_the_interpreter_reports_of_itself(tmp_path: Path) -> None:
    for name, version in (("aclruntime", "0.0.2"), ("ais_bench", "0.0.2"), ("numpy", "1.26.4")):
        distribution(tmp_path, name, version)
    package(tmp_path, f"print({UNDERSCORES!r})")
    probed = probe_ais_bench(environ=environ_with(tmp_path))
    assert (probed.aclruntime, probed.ais_bench, probed.numpy) == ("0.0.2", "0.0.2", "1.26.4")
    assert probed.python == ".".join(map(str, sys.version_info[:3]))
    assert probed.problems == ()


@pytest.mark.parametrize(
    ("main", "modules", "line"),
    [
        ("import tqdm9", {}, "-m pip install tqdm9"),
        ("import sys; sys.exit(3)", {}, "-m ais_bench --help  (it fails: it ended with code 3)"),
        (
            "raise ImportError('libascendcl.so: cannot open shared object file: No such file or directory')",
            {},
            "source …/ascend-toolkit/set_env.sh  (ais_bench does not find CANN's libascendcl.so)",
        ),
        (f"print({OTHER_PROGRAM!r})", {}, "is a different program"),
        # What some versions do without pkg_resources, which their help does not show.
        (
            f"print({UNDERSCORES!r})",
            {"infer_in_miscellaneous": "def version_check(args):\n if args is None: aclruntime_version = 1\n"
            " return aclruntime_version"},
            '-m pip install "setuptools<82"',
        ),
    ],
)  # fmt: skip
def test_what_does_not_start_has_its_line(
    tmp_path: Path, main: str, modules: dict[str, str], line: str
) -> None:
    for name, version in (("aclruntime", "0.0.2"), ("ais_bench", "9.9")):
        distribution(tmp_path, name, version)
    package(tmp_path, main, **modules)
    (problem,) = probe_ais_bench(environ=environ_with(tmp_path)).problems
    assert line in problem


def test_any_python_is_asked_without_help_of_its_packages(tmp_path: Path) -> None:
    distribution(tmp_path, "ais_bench", "0.0.2")
    package(tmp_path, f"print({UNDERSCORES!r})")
    answers = {}
    for python in (sys.executable, *(f"python3.{minor}" for minor in range(7, 14))):
        environ = environ_with(tmp_path, AIS_PYTHON=python)
        if (
            shutil.which(python)
            and subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0
        ):
            probed = probe_ais_bench(environ=environ)
            answers[probed.python] = (probed.ais_bench, probed.problems)
    assert answers and set(answers.values()) == {("0.0.2", ())}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (UNDERSCORES, "--output_dirname x --debug true --dymBatch 2 --output_batchsize_axis 1"),
        (DASHES, "--output-dirname x --debug --dym-batch 2"),
    ],
)
def test_options_are_spelled_as_the_help_spells_them(tmp_path: Path, text: str, words: str) -> None:
    interpreter = answering(tmp_path / "python", text, python="3.13.0", aclruntime="0.0.3", ais_bench="0.1.0")
    probed = probe_ais_bench(environ={"AIS_PYTHON": interpreter, "PATH": os.environ["PATH"]})
    assert probed.problems == ()
    given = {"--output_dirname": "x", "--debug": True, "--dymBatch": 2}
    if text is UNDERSCORES:
        given["--output_batchsize_axis"] = 1
    else:
        with pytest.raises(
            UsageError, match=r"ais_bench 0\.1\.0 of .* has no option --output_batchsize_axis"
        ):
            probed.spelled("--output_batchsize_axis", 1)
    assert " ".join(word for name, value in given.items() for word in probed.spelled(name, value)) == words


def test_nothing_in_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert probe_ais_bench(environ={**os.environ, "AIS_PYTHON": sys.executable}).python


def answering(path: Path, text: str = UNDERSCORES, **changes: object) -> str:
    """A stub interpreter that answers as a Python with a working ais_bench would, but for `changes`."""
    return str(program(path, f"cat <<'END'\n{answer(text, **changes)}END"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"aclruntime": None}, "{} -m pip install aclruntime-*.whl  (wheels: https://gitee.com/"),
        ({"aclruntime": None, "ais_bench": None, "python": "3.7.16"}, "{} -m pip install aclruntime-*.whl ais_bench"),
        ({"aclruntime": None, "python": "3.12.1"}, "{} -m pip install aclruntime-*.whl"),
        ({"aclruntime": None, "python": "3.14.0"}, "python3.10 -m venv .venv-ais && "),
        ({"aclruntime": None, "python": "3.6.15"}, "python3.10 -m venv .venv-ais && "),
    ],
)  # fmt: skip
def test_what_is_absent_has_its_line(tmp_path: Path, changes: dict[str, object], line: str) -> None:
    interpreter = answering(tmp_path / "python", "", **changes)
    (problem,) = probe_ais_bench(environ={"AIS_PYTHON": interpreter, "PATH": os.environ["PATH"]}).problems
    assert problem.startswith(line.format(interpreter))


@pytest.mark.parametrize(
    "changes",
    [
        {"python": "3.12.1"},
        {"numpy": "2.4.6"},
        {"numpy": None},
        {"aclruntime": "unknown", "ais_bench": "unknown"},
    ],
)
def test_what_runs_has_no_problem_whatever_its_versions(tmp_path: Path, changes: dict[str, object]) -> None:
    interpreter = answering(tmp_path / "python", **changes)
    assert probe_ais_bench(environ={"AIS_PYTHON": interpreter, "PATH": os.environ["PATH"]}).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("echo 'no such version' >&2; exit 127", "code 127 and did not answer: no such version"),
        ("echo hello", "did not answer: hello"),
        ('echo "{}"', "did not answer"),
        ("echo '[1]'", "did not answer"),
        ("printf '['%.0s $(seq 20000)", "did not answer"),
        ("yes", "more than 262144 bytes"),
        ("sleep 600", "had not ended after 1 s"),
    ],
)
def test_an_interpreter_that_does_not_answer_has_failed(tmp_path: Path, body: str, output: str) -> None:
    interpreter = program(tmp_path / "python", body)
    with pytest.raises(ExternalToolError) as failure:
        probe_ais_bench(environ={"AIS_PYTHON": str(interpreter), "PATH": os.environ["PATH"]}, seconds=1)
    assert output in str(failure.value)


def test_an_interpreter_that_is_not_there_is_lacking(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="AIS_PYTHON"):
        probe_ais_bench(environ={"AIS_PYTHON": str(tmp_path / "python9"), "PATH": ""})
