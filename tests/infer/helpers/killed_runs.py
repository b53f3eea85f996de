"""A run of the command that is killed while it writes its outputs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

FILES = 2000
"""Enough that a run which has written the output of number 20 is not at its end."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed_in_the_middle(model: Path, folder: Path, output: Path, *options: str) -> None:
    """Start the command and kill it once it has written some outputs."""
    words = ["--model", model, "--input", folder, "--output", output, "--output_dirname", "run", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "infer", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (output / "run" / "video_20_0.bin").exists():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert (output / "run.journal.jsonl").exists() and not (output / "run_summary.json").exists()
