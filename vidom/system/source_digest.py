"""What this program's own sources are, as one number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["sources_digest"]


def sources_digest(packages: Sequence[str]) -> str:
    """Return a SHA-256 over the names and contents of all Python files in these packages."""
    digest = hashlib.sha256()
    repository = Path(__file__).resolve().parents[2]
    for package in packages:
        for path in sorted((repository / package).rglob("*.py")):
            digest.update(path.relative_to(repository).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
