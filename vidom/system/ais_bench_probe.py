"""Whether an interpreter has a working ais_bench, asked of that interpreter and never by importing it here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from vidom.errors import ExternalToolError, UnavailableError
from vidom.system.external_query import ask

__all__ = ["VARIABLE", "WHEELS", "AisBench", "ais_interpreter", "probe_ais_bench"]

VARIABLE = "AIS_PYTHON"
WHEELS = "https://gitee.com/ascend/tools/tree/master/ais-bench_workload/tool/ais_bench"

# Runs in a foreign interpreter, Python 3.7 or newer. The current folder is taken off the search path first,
# so that nothing lying in it is run.
_QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import json
from importlib.util import find_spec
try:
    from importlib.metadata import PackageNotFoundError as Absent, version
except ImportError:
    from pkg_resources import DistributionNotFound as Absent, get_distribution
    def version(name):
        return get_distribution(name).version
found = {"python": ".".join(map(str, sys.version_info[:3])), "pkg_resources": find_spec("pkg_resources") is not None}
for name in ("aclruntime", "ais_bench", "setuptools", "numpy"):
    try:
        found[name] = version(name)
    except Absent:
        found[name] = None
print(json.dumps(found))
"""


@dataclass(frozen=True)
class AisBench:
    """What one interpreter answered; a package's version is None where it is not installed."""

    interpreter: str
    python: str
    aclruntime: str | None
    ais_bench: str | None
    setuptools: str | None
    numpy: str | None
    pkg_resources: bool

    @property
    def has_wheels(self) -> bool:
        """Whether aclruntime is published for this version of Python: 3.7 to 3.10."""
        return (3, 7) <= _leading(self.python) <= (3, 10)

    @property
    def numpy_fits(self) -> bool:
        """Whether its numpy is one of the 1.x that the wheels were built against."""
        return self.numpy is not None and _leading(self.numpy) < (2, 0)

    @property
    def problems(self) -> tuple[str, ...]:
        """The lines that make it work, in the order to type them; none when it should work.

        The wheels of aclruntime stop at Python 3.10, ais_bench reads its version through pkg_resources,
        which setuptools 82 no longer has, and both were built against numpy 1.
        """
        pip = f"{self.interpreter} -m pip install"
        absent = [name for name in ("aclruntime", "ais_bench") if getattr(self, name) is None]
        if absent and not self.has_wheels:
            return (own_environment(),)
        lines = []
        if absent:
            lines.append(f"{pip} {' '.join(f'{name}-*.whl' for name in absent)}  (wheels: {WHEELS})")
        if not self.pkg_resources:
            lines.append(f'{pip} "setuptools<82"')
        if not self.numpy_fits:
            lines.append(f'{pip} "numpy<2"')
        return tuple(lines)


def own_environment() -> str:
    """Return the line that creates a separate environment for ais_bench and selects it."""
    return (
        "python3.10 -m venv .venv-ais && .venv-ais/bin/python -m pip install "
        '"numpy<2" "setuptools<82" aclruntime-*.whl ais_bench-*.whl && '
        f"export {VARIABLE}=$PWD/.venv-ais/bin/python  (wheels: {WHEELS})"
    )


def _leading(version: str) -> tuple[int, int]:
    major, minor = ([int(part) for part in version.split(".")[:2] if part.isdigit()] + [0, 0])[:2]
    return major, minor


def ais_interpreter(*, environ: Mapping[str, str] | None = None) -> str:
    """Return the interpreter that AIS_PYTHON names, or the current one where it names none.

    Raises UnavailableError when AIS_PYTHON names nothing that can be run.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE, "")
    if not named:
        return sys.executable
    found = shutil.which(named, path=environ.get("PATH", ""))
    if found is None:
        raise UnavailableError(
            f"{VARIABLE}={named} is not an executable program. Set it to the Python that has ais_bench, or "
            "unset it to use the current one."
        )
    return found


def probe_ais_bench(*, environ: Mapping[str, str] | None = None, seconds: float = 30.0) -> AisBench:
    """Return the versions that the interpreter of ais_bench reports of itself; no device is opened.

    Raises UnavailableError when AIS_PYTHON names no program, ExternalToolError when it fails, has not answered after
    `seconds` or answers something else.
    """
    interpreter = ais_interpreter(environ=environ)
    answer = ask([interpreter, "-c", _QUESTION], seconds=seconds, max_bytes=1 << 16, environ=environ)
    if answer.code:
        raise ExternalToolError(
            f"{interpreter}, asked for the versions of aclruntime and ais_bench, ended with code "
            f"{answer.code}: {answer.last_words() or 'it printed nothing'}. Set {VARIABLE} to a Python 3.7 to 3.10."
        )
    try:
        found = json.loads(answer.output)
        versions = {
            name: _version(found[name]) for name in ("aclruntime", "ais_bench", "setuptools", "numpy")
        }
        return AisBench(
            interpreter=interpreter,
            python=str(found["python"]),
            pkg_resources=bool(found["pkg_resources"]),
            **versions,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ExternalToolError(
            f"{interpreter} answered {answer.output[:80]!r} instead of versions. Is {VARIABLE} a Python?"
        ) from None


def _version(value: object) -> str | None:
    return None if value is None else str(value)
