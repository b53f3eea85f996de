"""Whether an interpreter has a working ais_bench: its help is printed there, and nothing of it is imported here.

Versions do not decide: 0.0.2 is the name of three programs of different needs, and 0.1.0 spells its options in a
different way. Starting it loads aclruntime and CANN's libraries; no device is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vidom.errors import ExternalToolError, UsageError
from vidom.system.external_query import Answer, ask
from vidom.system.interpreters import named_interpreter

__all__ = ["VARIABLE", "WHEELS", "AisBench", "probe_ais_bench"]

VARIABLE = "AIS_PYTHON"
WHEELS = "https://gitee.com/ascend/tools/tree/master/ais-bench_workload/tool/ais_bench"

# Runs in a foreign interpreter, Python 3.7 or newer, which may have neither importlib.metadata nor pkg_resources. The
# current folder is taken off the search path first, so that nothing lying in it is run. `version_check` is what a run
# begins with, where there is one: in some versions it fails without pkg_resources, which --help does not show.
_QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import argparse, glob, json, os, runpy
from importlib.util import find_spec
found = {"python": ".".join(map(str, sys.version_info[:3]))}
for name in ("aclruntime", "ais_bench", "numpy"):
    pattern = name.replace("_", "[-_.]") + "-[0-9]*.*-info"
    infos = [info for entry in sys.path for info in glob.glob(os.path.join(glob.escape(entry), pattern))]
    known = [os.path.basename(info).rpartition(".")[0].split("-")[1] for info in infos]
    found[name] = known[0] if known else "unknown" if find_spec(name) else None
print(json.dumps(found), flush=True)
try:
    from ais_bench.infer.miscellaneous import version_check
except ImportError:
    pass
else:
    version_check(argparse.Namespace(run_mode="array"))
sys.argv = ["ais_bench", "--help"]
runpy.run_module("ais_bench", run_name="__main__")
"""
_HELP_LINE = re.compile(r"^ {2,4}(-\S.*?)(?: {2,}.*)?$", re.MULTILINE)
_OPTION = re.compile(r"--\w[\w-]*")
_NEEDED = ("--model", "--input", "--output", "--output_dirname", "--device")
_CAUSES = (
    (
        "aclruntime_version|No module named 'pkg_resources'",
        '{pip} "setuptools<82"  (this ais_bench needs its pkg_resources, and aclruntime installed by pip)',
    ),
    (r"No module named '(?!ais_bench|aclruntime)(?P<name>\w+)'", "{pip} {name}"),
    (
        r"(?P<name>[\w.+-]+\.so[.\d]*): cannot open shared object file",
        "source …/ascend-toolkit/set_env.sh  (ais_bench does not find CANN's {name})",
    ),
    ("", "{interpreter} -m ais_bench --help  (it fails: {failure})"),
)


@dataclass(frozen=True)
class AisBench:
    """What one interpreter answered.

    `options` are those of its help by `_folded` name: the spelling, and whether a value follows; empty where it is not
    the ais_bench of this project's guide or does not start, for which `failure` is the end of what it printed. The
    version of a package is None where it is absent, "unknown" where pip did not install it.
    """

    interpreter: str
    python: str
    aclruntime: str | None
    ais_bench: str | None
    numpy: str | None
    options: Mapping[str, tuple[str, bool]] = field(hash=False)
    failure: str

    def spelled(self, name: str, value: object) -> list[str]:
        """Return the words for an option of ais_bench 0.0.2 as this one spells it; True is a flag that is set.

        Raises UsageError where it has no such option.
        """
        if _folded(name) not in self.options:
            raise UsageError(
                f"The ais_bench {self.ais_bench} of {self.interpreter} has no option {name}. "
                "Leave it out, or install a version that has it."
            )
        spelling, takes_value = self.options[_folded(name)]
        if value is True:
            return [spelling, "true"] if takes_value else [spelling]
        return [spelling, str(value)]

    @property
    def has_wheels(self) -> bool:
        """Whether aclruntime is published for this version of Python: 3.7 to 3.12, in ais_bench 0.1.0 up to 3.13."""
        return (3, 7) <= _leading(self.python) <= (3, 13)

    @property
    def problems(self) -> tuple[str, ...]:
        """The lines that make it work, in the order to type them; none when it does."""
        if self.options:
            return ()
        pip = f"{self.interpreter} -m pip install"
        absent = [name for name in ("aclruntime", "ais_bench") if getattr(self, name) is None]
        if absent and not self.has_wheels:
            return (own_environment(),)
        if absent:
            return (f"{pip} {' '.join(f'{name}-*.whl' for name in absent)}  (wheels: {WHEELS})",)
        if not self.failure:
            return (
                f"{own_environment()}  (the ais_bench {self.ais_bench} of {self.interpreter} is a different program: "
                "its help has no --model and --output_dirname)",
            )
        cause, remedy = next(
            (found, remedy) for pattern, remedy in _CAUSES if (found := re.search(pattern, self.failure))
        )
        known = {"pip": pip, "interpreter": self.interpreter, "failure": self.failure}
        return (remedy.format(**known, **cause.groupdict()),)


def own_environment() -> str:
    """Return the line that creates a separate environment for ais_bench and selects it."""
    return (
        "python3.10 -m venv .venv-ais && .venv-ais/bin/python -m pip install "
        '"setuptools<82" aclruntime-*.whl ais_bench-*.whl && '
        f"export {VARIABLE}=$PWD/.venv-ais/bin/python  (wheels: {WHEELS})"
    )


def _leading(version: str) -> tuple[int, int]:
    major, minor = ([int(part) for part in version.split(".")[:2] if part.isdigit()] + [0, 0])[:2]
    return major, minor


def _folded(name: str) -> str:
    return re.sub("[-_]", "", name).lower()


def _options_in(text: str) -> dict[str, tuple[str, bool]]:
    """Return the options that a help text of argparse lists, by folded name; {} unless the needed ones are there."""
    found: dict[str, tuple[str, bool]] = {}
    for line in _HELP_LINE.finditer(text):
        takes_value = not line[1].split()[-1].startswith("-")
        found |= {_folded(name): (name, takes_value) for name in _OPTION.findall(line[1])}
    return found if all(_folded(name) in found for name in _NEEDED) else {}


def probe_ais_bench(*, environ: Mapping[str, str] | None = None, seconds: float = 60.0) -> AisBench:
    """Return what the interpreter of ais_bench says of itself and of ais_bench; no device is opened.

    Raises UnavailableError when AIS_PYTHON names no program, ExternalToolError when it is no Python, has not answered
    after `seconds` or answers at too great length.
    """
    interpreter = named_interpreter(VARIABLE, "ais_bench", environ=environ)
    answer = ask([interpreter, "-c", _QUESTION], seconds=seconds, max_bytes=1 << 18, environ=environ)
    versions, _, text = answer.output.partition("\n")
    try:
        found = json.loads(versions)
        python = str(found["python"])
        known = {name: _version(found[name]) for name in ("aclruntime", "ais_bench", "numpy")}
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer.last_words() or "it printed nothing"
        raise ExternalToolError(
            f"{interpreter}, asked for the versions of aclruntime and ais_bench, ended with code {answer.code} and "
            f"did not answer: {said}. Is {VARIABLE} a Python?"
        ) from None
    options = {} if answer.code else _options_in(text)
    return AisBench(interpreter, python, **known, options=options, failure=_failure(answer))


def _failure(answer: Answer) -> str:
    if not answer.code:
        return ""
    return answer.last_words() if answer.errors.strip() else f"it ended with code {answer.code}"


def _version(value: object) -> str | None:
    return None if value is None else str(value)
