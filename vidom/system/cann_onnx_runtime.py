"""Whether an interpreter has an onnxruntime-cann that finds CANN's libraries; no device is opened.

Its wheels are built against numpy 1, which vidom's own environment does not have, so that it has an interpreter of its
own, named by CANN_PYTHON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from vidom.errors import ExternalToolError
from vidom.system.external_query import ask
from vidom.system.interpreters import named_interpreter

__all__ = [
    "PROVIDER",
    "VARIABLE",
    "CannOnnxRuntime",
    "cann_interpreter",
    "own_environment",
    "probe_cann_onnx_runtime",
]

VARIABLE = "CANN_PYTHON"
PROVIDER = "CANNExecutionProvider"

# Runs in a foreign interpreter, after taking the current folder off the search path. The libraries are those that the
# provider of onnxruntime-cann 1.24 is linked to.
_QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import ctypes, json
found = {"python": ".".join(map(str, sys.version_info[:3])), "version": None, "providers": [], "failure": ""}
try:
    import onnxruntime
    found["version"] = onnxruntime.__version__
    found["providers"] = onnxruntime.get_available_providers()
except Exception as error:
    found["failure"] = type(error).__name__ + ": " + " ".join(str(error).split())
found["absent"] = []
for name in ("libascendcl.so", "libacl_op_compiler.so", "libfmk_onnx_parser.so"):
    try:
        ctypes.CDLL(name)
    except OSError:
        found["absent"].append(name)
print()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class CannOnnxRuntime:
    """What one interpreter answered.

    `version` is onnxruntime's, None where it cannot be imported, for which `failure` is the reason; `absent` are
    libraries of CANN that are not found.
    """

    interpreter: str
    python: str
    version: str | None
    providers: tuple[str, ...]
    absent: tuple[str, ...]
    failure: str

    @property
    def problems(self) -> tuple[str, ...]:
        """The lines that make it work, in the order to type them; none when it does."""
        lines = []
        if PROVIDER not in self.providers:
            found = self.failure or f"its onnxruntime has {', '.join(self.providers)} only"
            lines.append(f"{own_environment()}  ({self.interpreter}: {found})")
        if self.absent:
            lines.append(f"source …/ascend-toolkit/set_env.sh  (not found: {', '.join(self.absent)})")
        return tuple(lines)


def own_environment() -> str:
    """Return the line that creates a separate environment for onnxruntime-cann and selects it."""
    return (
        "python3.11 -m venv .venv-cann && .venv-cann/bin/python -m pip install onnxruntime-cann "
        f'"numpy<2" && export {VARIABLE}=$PWD/.venv-cann/bin/python'
    )


def cann_interpreter(*, environ: Mapping[str, str] | None = None) -> str:
    """Return the interpreter that CANN_PYTHON names, or the current one; UnavailableError where there is none."""
    return named_interpreter(VARIABLE, "onnxruntime-cann", environ=environ)


def probe_cann_onnx_runtime(
    *, environ: Mapping[str, str] | None = None, seconds: float = 60.0
) -> CannOnnxRuntime:
    """Return what the interpreter of onnxruntime-cann says of itself.

    Raises UnavailableError when CANN_PYTHON names no program, ExternalToolError when it is no Python, has not answered
    after `seconds` or answers at too great length.
    """
    interpreter = cann_interpreter(environ=environ)
    answer = ask([interpreter, "-c", _QUESTION], seconds=seconds, max_bytes=1 << 18, environ=environ)
    try:
        found = json.loads(answer.output.strip().rpartition("\n")[2])
        version = found["version"]
        return CannOnnxRuntime(
            interpreter,
            str(found["python"]),
            None if version is None else str(version),
            tuple(map(str, found["providers"])),
            tuple(map(str, found["absent"])),
            str(found["failure"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer.last_words() or "it printed nothing"
        raise ExternalToolError(
            f"{interpreter}, asked for onnxruntime-cann, ended with code {answer.code} and did not answer: {said}. "
            f"Is {VARIABLE} a Python?"
        ) from None
