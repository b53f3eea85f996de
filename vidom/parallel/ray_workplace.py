"""What a Ray worker shares with the command it works for, and how often a block of work was started."""

from __future__ import annotations

import hashlib
import os
import platform
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

# A block that always kills its worker must not be repeated forever.
_MOST_STARTS = 3
_PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pillow")
_SOURCES = ("vidom", "preprocess", "infer", "postprocess")


@dataclass(frozen=True)
class Failure:
    """An error that ended a block, on its way to the command, where it is raised as if it had occurred there."""

    error: Exception


@dataclass(frozen=True)
class Workplace:
    """What every worker must have in common with the command.

    `folder` is the working directory, which relative paths start from; `witness` a file in the folder that is written
    to; `needs` are folders to read from; `program` is `program_digest`.
    """

    folder: Path
    witness: Path
    needs: tuple[Path, ...]
    program: str

    def enter(self) -> None:
        """Set this process up as a worker of the command: same folders, one decoding thread.

        Raises UnavailableError when this node has different files or a different vidom version.
        """
        _enter(self)


@dataclass(frozen=True)
class Guard:
    """The set-up of every block of work; picklable. `starts` is the actor that counts."""

    workplace: Workplace
    starts: Any

    @classmethod
    def make(cls, workplace: Workplace) -> Guard:
        """Return a guard whose count is kept by an actor of the cluster that this process is connected to."""
        import ray

        counting = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Starts)
        return cls(workplace, counting.remote())

    def begin(self, block: str, *, what: str) -> None:
        """Set the worker up and count the start of the block.

        Raises UnavailableError for a block that killed its workers repeatedly.
        """
        import ray

        self.workplace.enter()
        if ray.get(self.starts.count.remote(block)) > _MOST_STARTS:
            raise UnavailableError(
                f"{what} was started {_MOST_STARTS} times and its worker was killed each time, probably out of "
                "memory. Run fewer workers per node, or exclude that part; rerunning the command resumes it."
            )


class _Starts:
    """Counts how often each block was started."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, block: str) -> int:
        """Return how often the block was started, this time included."""
        self._counts[block] += 1
        return self._counts[block]


def program_digest() -> str:
    """Return a SHA-256 over the sources that workers run and the versions of the packages that decode and compute."""
    versions = [f"{package} {_version(package)}" for package in _PACKAGES]
    return hashlib.sha256("\n".join([sources_digest(_SOURCES), *versions]).encode()).hexdigest()


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
    if not workplace.witness.exists():
        raise UnavailableError(
            f"The node {node} does not see the same {workplace.witness.parent} as the command: what it writes there "
            "would be lost. Every node of the Ray cluster must share the file system that is written to."
        )
    if program_digest() != workplace.program:
        raise UnavailableError(
            f"The node {node} runs a different vidom version, or different versions of "
            f"{', '.join(_PACKAGES)}, than the command. Install the same versions: make setup"
        )
    os.chdir(workplace.folder)
    cv2.setNumThreads(1)
