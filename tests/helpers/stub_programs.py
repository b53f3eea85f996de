"""Shell scripts that stand for the programs of a machine."""

from __future__ import annotations

from pathlib import Path


def program(path: Path, body: str) -> Path:
    """Write an executable shell script, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n# stub\n{body}\n")
    path.chmod(0o755)
    return path
