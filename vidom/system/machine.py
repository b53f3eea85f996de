"""The machine under us: processor, memory, disk and the rights that new files get."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from vidom.files import free_bytes

__all__ = ["Machine", "look_at_machine", "usable_cores"]

_PROCESSOR_KEYS = ("model name", "Model Name", "Hardware", "cpu model")
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """What was read of the machine; `memory_bytes` is what this process may have, a container's limit included."""

    processor: str
    architecture: str
    cores: int
    cores_usable: int
    memory_bytes: int
    disk_folder: str
    disk_free_bytes: int
    umask: int


def look_at_machine(folder: Path) -> Machine:
    """Return the machine as the operating system describes it; the disk is the one that holds `folder`."""
    return Machine(
        processor=_processor(),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        cores_usable=usable_cores(),
        memory_bytes=_memory_bytes(),
        disk_folder=str(folder),
        disk_free_bytes=free_bytes(folder),
        umask=_umask(),
    )


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _PROCESSOR_KEYS and value.strip():
            return " ".join(value.split())
    # Arm kernels write numbers of implementer and part only.
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_read(path).strip() for path in _MEMORY_LIMITS)
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _umask() -> int:
    # The only portable method to read it is to set it; nothing else runs between the two calls.
    current = os.umask(0o022)
    os.umask(current)
    return current
