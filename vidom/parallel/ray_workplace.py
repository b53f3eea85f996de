"""What a Ray worker has in common with the command it works for, and how often a block of work was begun."""

from __future__ import annotations

import hashlib
import os
import platform
import select
import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

from vidom.errors import UnavailableError
from vidom.system.source_digest import sources_digest

__all__ = ["Failure", "Guard", "Workplace", "program_digest"]

# A block that kills its worker every time must not do so for ever.
_MOST_BEGINNINGS = 3
_PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pillow")
_ROOMS = ("vidom", "preprocess", "infer")


@dataclass(frozen=True)
class Failure:
    """An error that ended a block, on its way to the command, where it is raised as if it had occurred there."""

    error: Exception


@dataclass(frozen=True)
class Workplace:
    """What every worker must find as the command has it.

    `folder` is the working directory, which relative paths begin at; `witness` a file that reads `token`; `needs` are
    folders to read from; `program` is `program_digest`; `command` the command's process where it is on this machine.
    """

    folder: Path
    witness: Path
    token: str
    needs: tuple[Path, ...]
    program: str
    command: int | None

    def enter(self) -> None:
        """Set this process up as a worker of the command: same folders, one decoding thread, ends with the command.

        Raises UnavailableError when this node has different files or a different vidom version.
        """
        _enter(self)


@dataclass(frozen=True)
class Guard:
    """What a block of work begins with; picklable. `beginnings` is the actor that counts."""

    workplace: Workplace
    beginnings: Any

    @classmethod
    def make(cls, workplace: Workplace) -> Guard:
        """Return a guard whose count is kept by an actor of the cluster that this process is connected to."""
        import ray

        counting = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Beginnings)
        return cls(workplace, counting.remote())

    def begin(self, block: str, *, what: str) -> None:
        """Set the worker up and count the start of the block.

        Raises UnavailableError for a block that killed its workers repeatedly.
        """
        import ray

        self.workplace.enter()
        if ray.get(self.beginnings.count.remote(block)) > _MOST_BEGINNINGS:
            raise UnavailableError(
                f"{what} was begun {_MOST_BEGINNINGS} times, and each time the worker was killed, most likely for "
                "want of memory. Let fewer workers share a node, or leave that part out; the same command continues "
                "where this one stopped."
            )


class _Beginnings:
    """Counts how often each block was begun."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, block: str) -> int:
        """Return how often the block was begun, this time included."""
        self._counts[block] += 1
        return self._counts[block]


def program_digest() -> str:
    """Return a SHA-256 over the sources that work is done with and the versions of what decodes and computes."""
    versions = [f"{package} {_version(package)}" for package in _PACKAGES]
    return hashlib.sha256("\n".join([sources_digest(_ROOMS), *versions]).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@lru_cache
def _enter(workplace: Workplace) -> None:
    node = platform.node()
    for folder in (workplace.folder, *workplace.needs):
        if not folder.is_dir():
            raise UnavailableError(
                f"The node {node} has no folder {folder}. Every node of the Ray cluster must see the same files under "
                "the same names; mount the shared file system there."
            )
    if _read(workplace.witness) != workplace.token:
        raise UnavailableError(
            f"The node {node} does not see {workplace.witness.parent} as the command does: what it wrote there would "
            "be lost. Every node of the Ray cluster must share the file system that is written to."
        )
    if program_digest() != workplace.program:
        raise UnavailableError(
            f"The node {node} has other sources of vidom, or other versions of what decodes and computes "
            f"({', '.join(_PACKAGES)}), than the command. Bring it to the same state: make setup"
        )
    os.chdir(workplace.folder)
    cv2.setNumThreads(1)
    if workplace.command is not None and hasattr(os, "pidfd_open"):
        threading.Thread(target=_end_with, args=(workplace.command,), daemon=True).start()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _end_with(process: int) -> None:
    """End this process with its command.

    Ray does so only after a while, when the next command may write the same files.
    """
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)
    select.select([descriptor], [], [])
    os._exit(1)
