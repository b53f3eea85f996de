"""The process settings of all measurements, and the state of the machine."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vidom.files import human_bytes
from vidom.system.machine import look_at_machine

__all__ = ["FAIR_SETTINGS", "machine_state", "under_fair_settings"]

FAIR_SETTINGS = {
    # By default glibc maps each large array anew, and the kernel clears its pages every time; torch is affected most.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
    # On virtual machines, spinning threads take cores from working ones.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_PACKAGES = {
    "numpy": ("numpy",),
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "cv2": ("opencv-python-headless", "opencv-python"),
}


def under_fair_settings() -> None:
    """Restart this process under FAIR_SETTINGS, except those that the caller has set.

    glibc and OpenMP read them when a process starts, so this process is replaced by the same command, once. For the
    end of a command's file, before anything is computed; a program that calls `main` keeps its own settings.
    """
    if any(name not in os.environ for name in FAIR_SETTINGS):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**FAIR_SETTINGS, **os.environ})


def machine_state() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, load, memory, versions, settings; no date."""
    machine = look_at_machine(Path.cwd())
    versions = {name: _version(names) for name, names in _PACKAGES.items()}
    return {
        "processor": machine.processor,
        "usable cores": machine.cores_usable,
        "load average (1, 5, 15 min)": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "memory": human_bytes(machine.memory_bytes),
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: number for name, number in versions.items() if number},
        **{name: os.environ.get(name, "not set") for name in (*FAIR_SETTINGS, "OMP_NUM_THREADS")},
    }


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
