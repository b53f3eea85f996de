"""Where CANN is, which version it is and whether this shell is set up for it.

Sources, all Huawei's: the environment is that of `set_env.sh` (CANN manual, envref_07_0002: it sets
ASCEND_HOME_PATH, ASCEND_TOOLKIT_HOME, ASCEND_OPP_PATH, PATH). The version is looked up as the installation
guide says (softwareinst/instg_0064: `cat <home>/<arch>-linux/ascend_toolkit_install.info`, a line
`version=8.0.RC2`), or in `version.cfg` (`toolkit_running_version=[7.3.0.1.231:8.0.RC2]`), or in a component's
`version.info` (`version_dir=8.1.RC1`; its `Version=` counts components and is not CANN's). Up to CANN 8.3 the
toolkit is in `ascend-toolkit/latest`, from 8.5 on in `cann`.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vidom.errors import UnavailableError

__all__ = ["VARIABLES", "Cann", "atc_remedy", "find_atc", "find_cann", "require_atc"]

VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH")
_SYSTEM = Path("/usr/local/Ascend")
_FOLDERS = ("cann", "ascend-toolkit/latest", "nnrt/latest")
_MAX_BYTES = 1 << 16
_INSTALL_INFO = re.compile(r"^version=(\S+)\s*$", re.MULTILINE)
_VERSION_CFG = re.compile(
    r"^toolkit_(?:running|installed)_version=.{0,200}[\[:]([^\]:\s]{1,64})\]", re.MULTILINE
)
_VERSION_INFO = re.compile(r"^version_dir=(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Cann:
    """One installation of CANN.

    `found_by` is the environment variable that names it, or `default folder`; `version` is as CANN writes it
    (`8.0.RC2`), None where none of its files states it; `set_env` is the script to source.
    """

    home: Path
    found_by: str
    version: str | None
    version_file: Path | None
    set_env: Path | None

    @property
    def active(self) -> bool:
        """Whether this shell's environment names it, as it does once set_env.sh has been sourced."""
        return self.found_by in VARIABLES

    @property
    def release(self) -> tuple[int, int] | None:
        """Major and minor version, for comparisons; None where the version is unknown."""
        parts = re.match(r"(\d{1,4})\.(\d{1,4})", self.version or "", re.ASCII)
        return (int(parts.group(1)), int(parts.group(2))) if parts else None


def find_cann(
    *, environ: Mapping[str, str] | None = None, system: Path = _SYSTEM, user: Path | None = None
) -> Cann | None:
    """Return the CANN that the environment names, else the first in the default folders, else None.

    `system` and `user` are the folders named `Ascend` that root's and the user's installations go to. A
    variable that names a folder which is not there is passed over. Nothing is run.
    """
    for home, found_by in _homes(
        os.environ if environ is None else environ, system, user or Path.home() / "Ascend"
    ):
        if home.is_dir():
            version, version_file = _version(home)
            return Cann(home, found_by, version, version_file, _set_env(home))
    return None


def _homes(environ: Mapping[str, str], system: Path, user: Path) -> Iterator[tuple[Path, str]]:
    for variable in VARIABLES:
        value = environ.get(variable)
        if value:
            named = Path(value)
            yield (named.parent if variable == "ASCEND_OPP_PATH" else named), variable
    for root in (system, user):
        for folder in _FOLDERS:
            yield root / folder, "default folder"


def _version(home: Path) -> tuple[str | None, Path | None]:
    architectures = dict.fromkeys((platform.machine(), "aarch64", "arm64", "x86_64"))
    candidates = [
        (home / f"{arch}-linux" / f"ascend_{kind}_install.info", _INSTALL_INFO)
        for arch in architectures
        for kind in ("toolkit", "nnrt")
    ]
    candidates += [
        (home / "version.cfg", _VERSION_CFG),
        *((home / part / "version.info", _VERSION_INFO) for part in ("compiler", "opp", "runtime")),
    ]
    for path, pattern in candidates:
        found = pattern.search(_text(path))
        if found:
            return found.group(1), path
    return None, None


def _text(path: Path) -> str:
    """Return the beginning of a file, and nothing where there is none that may be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _set_env(home: Path) -> Path | None:
    candidates = (home / "set_env.sh", home.parent / "set_env.sh", home / "bin" / "setenv.bash")
    return next((path for path in candidates if path.is_file()), None)


def find_atc(*, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the `atc` that this shell would run, or None."""
    found = shutil.which("atc", path=(os.environ if environ is None else environ).get("PATH", ""))
    return Path(found) if found else None


def atc_remedy(cann: Cann | None) -> str:
    """Return what to run or install so that `atc` is on PATH, given the CANN that was detected."""
    if cann is not None and cann.set_env is not None:
        compiler_there = any((cann.home / path).is_file() for path in ("bin/atc", "compiler/bin/atc"))
        if compiler_there or not (cann.active or "nnrt" in cann.home.parts):
            return f"source {cann.set_env}"
    if cann is not None:
        return (
            f"install the CANN toolkit: {cann.home} has no atc "
            "(the run-time packages nnrt and nnae come without it)"
        )
    return (
        "install the CANN toolkit, and from CANN 8.5 on the ops package of the chip, from "
        "https://www.hiascend.com/cann/download, then source its set_env.sh"
    )


def require_atc(*, environ: Mapping[str, str] | None = None) -> Path:
    """Return the `atc` that this shell would run; raises UnavailableError, saying what to type, when there is none."""
    found = find_atc(environ=environ)
    if found is None:
        raise UnavailableError(
            "ATC, the compiler from ONNX to .om, is not on PATH. To have it: "
            f"{atc_remedy(find_cann(environ=environ))}."
        )
    return found
