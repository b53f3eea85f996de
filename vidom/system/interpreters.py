"""Interpreters that are not this one: those of programs whose packages cannot be installed next to vidom's."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from vidom.errors import UnavailableError

__all__ = ["named_interpreter"]


def named_interpreter(variable: str, program: str, *, environ: Mapping[str, str] | None = None) -> str:
    """Return the interpreter of `program` that the environment variable names, or the current one if it is not set.

    Raises UnavailableError when it names nothing that can be run.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(variable, "")
    if not named:
        return sys.executable
    found = shutil.which(named, path=environ.get("PATH", ""))
    if found is None:
        raise UnavailableError(
            f"{variable}={named} is not an executable program. Set it to the Python that has {program}, or "
            "unset it to use the current one."
        )
    return found
