from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from vidom.errors import ExternalToolError, UnavailableError
from vidom.system.ais_bench_probe import probe_ais_bench
from vidom.system.cann import Cann, atc_remedy, find_atc, find_cann, require_atc

INSTALL_INFO = """package_name=Ascend-cann-toolkit
version=8.1.RC1
innerversion=V100R001C21SPC001B212
compatible_version=[V100R001C15],[V100R001C18]
arch=x86_64
os=linux
path=/usr/local/Ascend/ascend-toolkit/8.1.RC1/x86_64-linux
"""
VERSION_CFG = """runtime_running_version=[7.3.0.1.231:8.0.RC2]
toolkit_running_version=[7.3.0.1.231:8.0.RC2]
toolkit_upgrade_version=[7.3.0.1.231:9.9.9]
"""
VERSION_INFO = (
    'Version=7.6.0.1.220\nversion_dir=8.0.0\ntimestamp=20241101\nrequired_package_x_version="8.5"\n'
)


def toolkit(root: Path, files: dict[str, str]) -> Path:
    """A folder that looks like `ascend-toolkit/latest`, with set_env.sh beside it as the installer puts it."""
    home = root / "ascend-toolkit" / "latest"
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    home.mkdir(parents=True, exist_ok=True)
    (home.parent / "set_env.sh").write_text("# stub\n")
    return home


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n# stub\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("name", "text", "version", "release"),
    [
        ("aarch64-linux/ascend_toolkit_install.info", INSTALL_INFO, "8.1.RC1", (8, 1)),
        ("x86_64-linux/ascend_toolkit_install.info", INSTALL_INFO, "8.1.RC1", (8, 1)),
        (
            "arm64-linux/ascend_toolkit_install.info",
            INSTALL_INFO.replace("8.1.RC1", "5.1.RC2"),
            "5.1.RC2",
            (5, 1),
        ),
        ("version.cfg", VERSION_CFG, "8.0.RC2", (8, 0)),
        ("compiler/version.info", VERSION_INFO, "8.0.0", (8, 0)),
        ("opp/version.info", VERSION_INFO.replace("8.0.0", "8.3.RC1.alpha001"), "8.3.RC1.alpha001", (8, 3)),
        ("compiler/version.info", "Version=1.82.22.1.220\n", None, None),
        ("version.cfg", "\x00" * 500, None, None),
    ],
)
def test_version_of_each_file_that_tells_it(
    tmp_path: Path, name: str, text: str, version: str | None, release: tuple[int, int] | None
) -> None:
    home = toolkit(tmp_path, {name: text})
    cann = find_cann(
        environ={"ASCEND_HOME_PATH": str(home)}, system=tmp_path / "none", user=tmp_path / "none"
    )
    assert cann is not None
    assert (cann.version, cann.release) == (version, release)
    assert cann.version_file == (home / name if version else None)


@pytest.mark.parametrize(
    ("variable", "below"), [("ASCEND_HOME_PATH", ""), ("ASCEND_TOOLKIT_HOME", ""), ("ASCEND_OPP_PATH", "opp")]
)
def test_each_variable_of_set_env_names_the_active_cann(tmp_path: Path, variable: str, below: str) -> None:
    home = toolkit(tmp_path, {})
    cann = find_cann(environ={variable: str(home / below)}, system=tmp_path / "none", user=tmp_path / "none")
    assert cann is not None
    assert (cann.home, cann.found_by, cann.active) == (home, variable, True)
    assert cann.set_env == home.parent / "set_env.sh"


def test_default_folders_are_found_but_not_active_and_system_comes_before_user(tmp_path: Path) -> None:
    system, user = tmp_path / "system", tmp_path / "user"
    users = toolkit(user, {})
    found = find_cann(environ={}, system=system, user=user)
    assert found is not None
    assert (found.home, found.active) == (users, False)
    systems = toolkit(system, {})
    found = find_cann(environ={}, system=system, user=user)
    assert found is not None and found.home == systems
    newest = system / "cann"
    newest.mkdir()
    found = find_cann(environ={}, system=system, user=user)
    assert found is not None and found.home == newest


def test_a_variable_that_names_nothing_is_passed_over(tmp_path: Path) -> None:
    environ = {"ASCEND_HOME_PATH": str(tmp_path / "gone"), "ASCEND_OPP_PATH": ""}
    assert find_cann(environ=environ, system=tmp_path / "none", user=tmp_path / "none") is None


def test_atc_is_the_one_that_the_shell_would_run(tmp_path: Path) -> None:
    atc = program(tmp_path / "bin" / "atc", "exit 0")
    assert find_atc(environ={"PATH": str(tmp_path / "bin")}) == atc
    assert require_atc(environ={"PATH": str(tmp_path / "bin")}) == atc
    assert find_atc(environ={"PATH": str(tmp_path)}) is None


def test_without_atc_the_remedy_is_the_line_that_brings_it(tmp_path: Path) -> None:
    home = toolkit(tmp_path, {})
    script = home.parent / "set_env.sh"
    idle = Cann(home, "default folder", "8.0.0", None, script)
    assert atc_remedy(idle) == f"source {script}"
    runtime_only = Cann(home, "ASCEND_HOME_PATH", "8.0.0", None, script)
    assert atc_remedy(runtime_only).startswith("install the CANN toolkit")
    program(home / "bin" / "atc", "exit 0")
    assert atc_remedy(runtime_only) == f"source {script}"
    assert "hiascend.com" in atc_remedy(None)
    with pytest.raises(UnavailableError, match=r"not on PATH. To have it: source"):
        require_atc(environ={"PATH": "", "ASCEND_HOME_PATH": str(home)})


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def environ_with(folder: Path, **variables: str) -> dict[str, str]:
    """This process's environment with `folder` before the installed packages."""
    return {**os.environ, "PYTHONPATH": str(folder), "AIS_PYTHON": sys.executable, **variables}


def test_versions_are_what_the_interpreter_reports_of_itself(tmp_path: Path) -> None:
    for name, version in (
        ("aclruntime", "0.0.2"),
        ("ais_bench", "0.0.2"),
        ("numpy", "1.26.4"),
        ("setuptools", "81.0"),
    ):
        distribution(tmp_path, name, version)
    (tmp_path / "pkg_resources.py").write_text("raise SystemExit('probing must not import anything')\n")
    probed = probe_ais_bench(environ=environ_with(tmp_path))
    assert (probed.aclruntime, probed.ais_bench, probed.numpy) == ("0.0.2", "0.0.2", "1.26.4")
    assert (probed.setuptools, probed.pkg_resources) == ("81.0", True)
    assert probed.python == ".".join(map(str, sys.version_info[:3]))
    assert probed.problems == ()


def test_nothing_in_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert probe_ais_bench(environ={**os.environ, "AIS_PYTHON": sys.executable}).python


def answering(path: Path, **changes: object) -> str:
    """A stub interpreter that answers as a Python with a working ais_bench would, but for `changes`."""
    answer = {
        "python": "3.10.13",
        "pkg_resources": True,
        "aclruntime": "0.0.2",
        "ais_bench": "0.0.2",
        "setuptools": "65.5.0",
        "numpy": "1.26.4",
        **changes,
    }
    return str(program(path, f"cat <<'END'\n{json.dumps(answer)}\nEND"))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"python": "3.12.1"}, []),
        ({"setuptools": "82.0.0", "pkg_resources": False}, ['{} -m pip install "setuptools<82"']),
        ({"setuptools": None, "pkg_resources": False}, ['{} -m pip install "setuptools<82"']),
        ({"numpy": "2.4.6"}, ['{} -m pip install "numpy<2"']),
        ({"numpy": None}, ['{} -m pip install "numpy<2"']),
        ({"aclruntime": None}, ["{} -m pip install aclruntime-*.whl  (wheels: https://gitee.com/"]),
        (
            {"aclruntime": None, "ais_bench": None, "python": "3.7.16"},
            ["{} -m pip install aclruntime-*.whl ais_bench"],
        ),
        ({"aclruntime": None, "python": "3.11.7"}, ["python3.10 -m venv .venv-ais && "]),
        ({"aclruntime": None, "python": "3.6.15"}, ["python3.10 -m venv .venv-ais && "]),
    ],
)
def test_each_trap_of_ais_bench_has_its_line(
    tmp_path: Path, changes: dict[str, object], lines: list[str]
) -> None:
    interpreter = answering(tmp_path / "python", **changes)
    problems = probe_ais_bench(environ={"AIS_PYTHON": interpreter, "PATH": os.environ["PATH"]}).problems
    assert len(problems) == len(lines)
    for problem, line in zip(problems, lines, strict=True):
        assert problem.startswith(line.format(interpreter))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("echo 'no such version' >&2; exit 127", "code 127: no such version"),
        ("echo hello", "instead of versions"),
        ('echo "{}"', "instead of versions"),
        ("echo '[1]'", "instead of versions"),
        ("printf '['%.0s $(seq 20000)", "instead of versions"),
        ("yes", "more than 65536 bytes"),
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
