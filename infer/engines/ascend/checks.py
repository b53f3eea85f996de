"""What ais_bench refuses or does not check, found before it is started.

It refuses paths with characters other than letters, digits and `_ . / -`, symbolic links, files and folders that the
group or others may write, and those of a different owner and group; some of this only after minutes, when it reaches
the file. Since June 2024 it refuses a folder of results that is more open than 0750 (before, it changed the mode), and
takes --output_dirname for a path of its own, relative to the current folder. It does not check free disk space. Source:
ais_bench 0.0.2, `infer/path_security_check.py` and `infer/args_check.py`.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vidom.errors import UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes

__all__ = ["check_free_space", "check_loop", "check_paths", "prepare_output"]

_log = logging.getLogger(__name__)

_STRANGE = re.compile(r"[^_A-Za-z0-9/.-]")
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OUTPUT_MODE, _TOO_OPEN = 0o750, 0o027
_LARGEST_LOOP = 100_000
_BLOCK = 4096
_NAMED = 5


def check_paths(paths: Iterable[str]) -> None:
    """Raise UsageError that lists the files and folders, as written, that ais_bench would refuse."""
    faults: dict[str, list[str]] = {}
    for path in paths:
        for fault in _faults(path):
            faults.setdefault(fault, []).append(path)
    if faults:
        listed = " ".join(
            f"{remedy[0].upper()}{remedy[1:]}: {_some(found)}." for remedy, found in faults.items()
        )
        raise UsageError(f"ais_bench refuses these paths, so it was not started. {listed}")


def _faults(path: str) -> Iterator[str]:
    if _STRANGE.search(path):
        yield "only the characters A-Z a-z 0-9 _ - / . are allowed; rename, or give a relative path"
    if len(path) > _LONGEST_PATH or any(len(name) > _LONGEST_NAME for name in path.split("/")):
        yield f"a path may have {_LONGEST_PATH} characters and a name {_LONGEST_NAME}; shorten"
    try:
        found = os.lstat(path.rstrip("/") or "/")
    except OSError as error:
        yield f"{error.strerror}"
        return
    if stat.S_ISLNK(found.st_mode):
        yield "symbolic links are not followed; give the path that the link points to, or copy the files"
        return
    if found.st_uid != os.geteuid() and found.st_gid not in os.getgroups():
        yield (
            f"user and group must be those of whoever runs it (uid {os.geteuid()}), root included; chown, or run it "
            "as the owner"
        )
    if found.st_mode & _OPEN_TO_OTHERS:
        yield (
            "the group or others may write them; chmod go-w (for a folder: chmod -R go-w), and umask 027 before new "
            "ones are created"
        )
    if not found.st_mode & stat.S_IRUSR or not os.access(path, os.R_OK):
        yield "they cannot be read; chmod u+r"


def check_loop(loop: int) -> None:
    """Raise UsageError for more repeats than ais_bench accepts."""
    if loop > _LARGEST_LOOP:
        raise UsageError(f"ais_bench repeats a run at most {_LARGEST_LOOP} times, found --loop {loop}.")


def prepare_output(output: str, dirname: str) -> None:
    """Create both folders of the results, and give them the mode 0750 in any case; what is in them stays.

    Raises UsageError for those that ais_bench does not accept, for a folder of another owner, and where the current
    folder has something called `dirname` that ais_bench would refuse in their place.
    """
    if _STRANGE.search(f"{output}/{dirname}"):
        raise UsageError(
            f"ais_bench accepts only the characters A-Z a-z 0-9 _ - / . in a path, so --output {output!r} with "
            f"--output_dirname {dirname!r} would be refused. Choose others."
        )
    for folder in (Path(output), Path(output, dirname)):
        folder.mkdir(parents=True, mode=_OUTPUT_MODE, exist_ok=True)
        _set_mode(folder)
    check_paths([output, f"{output.rstrip('/')}/{dirname}"])
    namesake = Path(dirname)
    if namesake.exists() and (namesake.is_symlink() or namesake.stat().st_mode & _TOO_OPEN):
        raise UsageError(
            f"ais_bench takes --output_dirname {dirname} for {namesake.absolute()}, which exists, and refuses it if it "
            f"is a link or more open than 0750. Run chmod 750 {dirname}, choose a different name, or start from a "
            "different folder."
        )


def _set_mode(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o777
    if mode == _OUTPUT_MODE:
        return
    try:
        folder.chmod(_OUTPUT_MODE)
    except OSError as error:
        raise UsageError(
            f"{folder} has the mode {mode:04o} and cannot be given 0750, the mode that ais_bench requires of a folder "
            f"of results ({error.strerror}). Choose a different --output."
        ) from None
    if mode & _TOO_OPEN:
        _log.warning(
            f"{folder} had the mode {mode:04o} and now has 0750, which ais_bench requires of a folder of results: "
            "other users can no longer enter it. Give a separate --output if they should."
        )


def check_free_space(output: str, *, files: int, values: int | None) -> None:
    """Raise UnavailableError unless the disk has space for `files` outputs of `values` numbers (None: unknown).

    A number takes up to ten characters as TXT.
    """
    each = -(-(10 * (values or 1) + 128) // _BLOCK) * _BLOCK
    needed, free = files * each, free_bytes(output)
    if free < needed:
        raise UnavailableError(
            f"The disk of {output} has {human_bytes(free)} free, and the outputs of {files} files take up to "
            f"{human_bytes(needed)}; ais_bench would stop in the middle. Free some space, or give a different --output."
        )


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more
