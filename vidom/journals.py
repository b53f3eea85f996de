"""Journals: a JSON document a line, appended as work is done, of which a killed process leaves whole lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from vidom.bounded_reading import parse_json, read_bytes
from vidom.files import encode_json, write_bytes

__all__ = ["append_line", "open_journal", "read_json_lines"]


def append_line(stream: IO[str], document: Any) -> None:
    """Append `document` to `stream` as one JSON line and flush it."""
    stream.write(json.dumps(document, ensure_ascii=False) + "\n")
    stream.flush()


def read_json_lines(path: Path) -> list[Any]:
    """Return the complete lines of a journal, up to the first that is damaged or cut short; [] if it is absent."""
    if not path.exists():
        return []
    documents = []
    for line in read_bytes(path, what="journal").split(b"\n")[:-1]:
        try:
            documents.append(parse_json(line.decode()))
        except ValueError:
            break
    return documents


def open_journal(path: Path, documents: Iterable[Any]) -> IO[str]:
    """Write the journal anew with `documents`, one a line, and return it open for `append_line`.

    A line that a killed process cut short is thereby gone, and the next one does not continue it.
    """
    lines = "".join(f"{json.dumps(document, ensure_ascii=False)}\n" for document in documents)
    write_bytes(path, encode_json(lines))
    return path.open("a", encoding="utf-8", errors="backslashreplace")
