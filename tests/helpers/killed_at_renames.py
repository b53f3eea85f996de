"""A program: run a command killed just before or after its renames, and again after each kill; and two at once.

Arguments: a folder to work in, in which `start` is what the command finds in its output folder; the moments of kills,
`before` or `before,after` the rename; the module of the command; its words, in which {out} stands for the output
folder. Lines of JSON on stdout say what happened: the first in a run without a kill, the second in two runs, of which
the first is stopped at its first rename until the second has ended, each further one in a killed run and the next. The
module is imported once; each run is a fork, whose stdout and stderr are in a log next to its output folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_ALL = 12
_state: dict[str, Any] = {"renames": 0, "fatal": (0, "before")}


def _counted(rename: Callable[..., None]) -> Callable[..., None]:
    def renamed(*places: Any, **options: Any) -> None:
        _state["renames"] += 1
        if (_state["renames"], "stopped") == _state["fatal"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        if (_state["renames"], "before") == _state["fatal"]:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*places, **options)
        if (_state["renames"], "after") == _state["fatal"]:
            os.kill(os.getpid(), signal.SIGKILL)

    return renamed


def _run(
    main: Callable[..., Any], words: list[str], log: Path, fatal: tuple[int, str] = (0, "before")
) -> int:
    """Return the exit code of the command, -9 if it was killed; the number of its renames is in the log."""
    return _ended(_start(main, words, log, fatal))


def _ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _start(main: Callable[..., Any], words: list[str], log: Path, fatal: tuple[int, str]) -> int:
    from vidom.command import run

    process = os.fork()
    if process:
        return process
    _state["fatal"], sys.argv = fatal, ["command", *words]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        run(main)
    except SystemExit as end:
        print(f"\n{_state['renames']}", flush=True)
        os._exit(int(str(end.code)))
    finally:
        os._exit(1)


def _chosen(renames: int) -> Iterator[int]:
    """All renames; of many, those at the beginning, in the middle and at the end."""
    for number in range(1, renames + 1):
        if renames <= _ALL or number <= 2 or number > renames - 4 or number == renames // 2:
            yield number


def _main(work: Path, moments: list[str], module: str, words: list[str]) -> None:
    main = import_module(module).main

    def folder(name: str) -> tuple[Path, list[str]]:
        out = work / name
        shutil.copytree(work / "start", out)
        return out, [word.replace("{out}", str(out)) for word in words]

    _, whole = folder("whole")
    code = _run(main, whole, work / "whole.log")
    renames = int((work / "whole.log").read_text().split()[-1])
    print(json.dumps({"folder": "whole", "code": code, "renames": renames}), flush=True)
    _, twice = folder("twice")
    first = _start(main, twice, work / "first.log", (1, "stopped"))
    os.waitpid(first, os.WUNTRACED)
    second = _run(main, twice, work / "second.log")
    os.kill(first, signal.SIGCONT)
    print(json.dumps({"pid": first, "first": _ended(first), "second": second}), flush=True)
    for number in _chosen(renames):
        for moment in moments:
            name = f"{number}_{moment}"
            out, given = folder(name)
            killed = _run(main, given, work / f"{name}.log", (number, moment))
            left = [path.name for path in out.rglob("*.part")]
            code = _run(main, given, work / f"{name}.log")
            print(json.dumps({"folder": name, "killed": killed, "left": left, "code": code}), flush=True)


if __name__ == "__main__":
    os.rename, os.replace = _counted(os.rename), _counted(os.replace)
    _main(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4:])
