"""Peak memory of work in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

from vidom.errors import ExternalToolError

__all__ = ["peak_rss", "peak_rss_of"]

# Linux includes the memory of the parent at the start in a process's peak. So the measured process is started by a
# small one and not by this one, which may hold gigabytes.
_STARTER = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
_CALLER = (
    "import importlib, json, sys; "
    "getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*json.loads(sys.argv[3]))"
)


def peak_rss(argv: Sequence[str]) -> int:
    """Return the peak resident bytes of the command; of several processes, those of the largest one.

    Its output is discarded. Raises ExternalToolError, with the end of its stderr, when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", _STARTER, *argv], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ExternalToolError(
            f"The memory of a command could not be measured, because it ended with {done.returncode}: "
            f"{' '.join(argv)}\n{done.stderr[-2000:]}"
        )
    return int(done.stdout) * 1024


def peak_rss_of(function: Callable[..., object], *arguments: str | int | float) -> int:
    """Return the peak resident bytes of a new process that imports the function's module and calls it.

    `function` is defined at the top level of its module. Raises ExternalToolError when the call does.
    """
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    return peak_rss([sys.executable, "-c", _CALLER, module, function.__name__, json.dumps(arguments)])
