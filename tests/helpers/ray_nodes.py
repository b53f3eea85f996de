"""The processes of the tests' Ray cluster, as /proc shows them, and what its nodes are told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def _parents() -> dict[int, int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return parents


def descendants(pid: int) -> set[int]:
    """All living processes below this one."""
    parents = _parents()
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def title(pid: int) -> str:
    """What the process calls itself; Ray's workers tell what they do."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill_a_worker(doing: str, *, when: Callable[[], bool], seconds: float = 40) -> bool:
    """Kill one worker of this process's cluster that is `doing` so, once `when` holds; tell whether there was one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if when():
            for pid in descendants(os.getpid()):
                if title(pid).startswith(f"ray::{doing}"):
                    os.kill(pid, signal.SIGKILL)
                    return True
        time.sleep(0.01)
    return False


def standin_python(factory: pytest.TempPathFactory) -> Path:
    """Where the nodes of the tests' Ray cluster look for the interpreter that has ais_bench."""
    return factory.getbasetemp() / "ais_python"
