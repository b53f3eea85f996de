from __future__ import annotations

from pathlib import Path

import pytest
from stub_programs import program

from vidom.errors import UnavailableError
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
