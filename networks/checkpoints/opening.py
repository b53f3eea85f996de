"""Errors that all readers of checkpoint files share: a missing file, and one that cannot be read."""

from __future__ import annotations

from pathlib import Path

from vidom.errors import BadDataError, UsageError

__all__ = ["checkpoint_file", "unreadable"]


def checkpoint_file(path: Path | str) -> Path:
    """Return `path` as a Path; raises UsageError when there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no checkpoint file {path}. Check the path.")
    return path


def unreadable(path: Path | str, reason: str) -> BadDataError:
    """Return the error for a file that cannot be read for this reason."""
    return BadDataError(
        f"The checkpoint {path} cannot be read: {reason}. It may be of a different kind, truncated or damaged; "
        "download it again and compare its sha256 with the published one."
    )
