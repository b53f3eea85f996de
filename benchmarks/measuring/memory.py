"""How much memory a piece of work takes at its peak, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

from vidom.errors import ExternalToolError

__all__ = ["peak_rss", "peak_rss_of"]

# Linux counts into a process's peak what its parent held when it was started. So the one that is measured is started
# by a small one, not by us, who may hold gigabytes.
_STARTER = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
_CALLER = (
    "import importlib, json, sys; "
    "getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*json.loads(sys.argv[3]))"
)


def peak_rss(argv: Sequence[str]) -> int:
    """Return the most bytes that the command held in memory; of several processes, the largest counts alone.

    What it prints goes nowhere. Raises ExternalToolError, with the end of its stderr, when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", _STARTER, *argv], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ExternalToolError(
            f"The memory of a command could not be measured, since it ended with {done.returncode}: "
            f"{' '.join(argv)}\n{done.stderr[-2000:]}"
        )
    return int(done.stdout) * 1024


def peak_rss_of(function: Callable[..., object], *arguments: str | int | float) -> int:
    """Return the most bytes that a fresh process held which imported the function's module and called it.

    `function` stands at the top of its module. Raises ExternalToolError when the call does.
    """
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    return peak_rss([sys.executable, "-c", _CALLER, module, function.__name__, json.dumps(arguments)])
