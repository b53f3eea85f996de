"""Annotation lists of the videos of a data set, in the formats of mmaction2's tools: lines of text, or JSON.

    [{"filename": "a.mp4", "label": 3}, ...]                       videos
    [{"frame_dir": "a", "total_frames": 300, "label": 3}, ...]     folders of frames; "offset" may be there too

Source: `load_json_annotations` of mmaction/datasets/base.py and `load_annotations` of rawframe_dataset.py.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vidom.bounded_reading import read_json, read_lines
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = [
    "Annotation",
    "Kind",
    "ListLine",
    "is_json",
    "leaves_data_root",
    "path_fault",
    "read_annotations",
    "read_list",
]

Kind = Literal["videos", "rawframes", "rawframes_with_offset"]

_NUMBERS: dict[Kind, int] = {"videos": 1, "rawframes": 2, "rawframes_with_offset": 3}
_FORMS: dict[Kind, str] = {
    "videos": "<path> <label>",
    "rawframes": "<folder> <total_frames> <label>",
    "rawframes_with_offset": "<folder> <offset> <total_frames> <label>",
}
_JSON_KEYS: dict[Kind, str] = {
    "videos": "filename",
    "rawframes": "frame_dir",
    "rawframes_with_offset": "frame_dir",
}
_JSON_COUNTS: dict[Kind, tuple[str, ...]] = {
    "videos": (),
    "rawframes": ("total_frames",),
    "rawframes_with_offset": ("offset", "total_frames"),
}
_LIMIT = 10**9
_MAX_NAME = 255
_MAX_PATH = 2000
_NUMBER = re.compile(r"[0-9]{1,9}")
_SHOWN = 10


@dataclass(frozen=True)
class Annotation:
    """One labelled video of a list.

    `id` is unique in the list; `path` is relative to the data root. `total_frames` is None for a video file;
    `offset` is the number of frames of the folder before the first one of this sample.
    """

    id: str
    path: str
    total_frames: int | None
    label: int
    offset: int = 0


@dataclass(frozen=True)
class ListLine:
    """A non-empty line of a list: its annotation, or the reason why it is malformed."""

    number: int
    text: str
    annotation: Annotation | None
    fault: str | None = None


def read_list(path: Path | str, *, kind: Kind | None = None) -> tuple[Kind, tuple[ListLine, ...]]:
    """Return the kind of the list at `path` and its lines in order; only their form is checked.

    Lines are split at whitespace from the right, so that names may contain spaces. Without `kind` it is inferred from
    how many numbers most lines end with, or from the entries' keys in JSON, whose entries count as lines. Raises
    BadDataError for a list that is absent, empty, or neither text nor such JSON.
    """
    if is_json(Path(path)):
        return _read_json_list(Path(path))
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(path, what="list"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise BadDataError(f"The list {path} is empty; expected lines like: {' or '.join(_FORMS.values())}")
    known = kind or _kind_of([line for _, line in lines])
    return known, tuple(_parse(number, line, known) for number, line in lines)


def read_annotations(
    path: Path | str, *, kind: Kind | None = None, num_classes: int | None = None
) -> tuple[Annotation, ...]:
    """Return the annotations of the list at `path` in order, read as by `read_list`.

    Raises BadDataError with the first ten faulty lines: malformed, a label outside `num_classes`, an absolute path or
    one with `..`, or a duplicate sample.
    """
    kind, lines = read_list(path, kind=kind)
    annotations: dict[str, tuple[int, Annotation]] = {}
    faults: list[str] = []
    for line in lines:
        fault = _fault(line.annotation, num_classes, annotations) if line.annotation else line.fault
        if fault:
            faults.append(f"  line {line.number}: {line.text[:120]!r}: {fault}")
        elif line.annotation:
            annotations[line.annotation.id] = (line.number, line.annotation)
    if faults:
        form = "a JSON array" if is_json(Path(path)) else f"lines of {_FORMS[kind]}"
        more = f"\n  ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise BadDataError(
            f"The list {path}, read as {form}, has {len(faults)} faulty line(s) of {len(lines)}:\n"
            + "\n".join(faults[:_SHOWN])
            + more
        )
    return tuple(annotation for _, annotation in annotations.values())


def is_json(path: Path) -> bool:
    """Return whether the list at `path` is read as JSON, which its suffix says."""
    return path.suffix.lower() == ".json"


def leaves_data_root(annotation: Annotation) -> bool:
    """Return whether the annotation's path is absolute or contains `..`."""
    path = PurePosixPath(annotation.path)
    return path.is_absolute() or ".." in path.parts


def path_fault(path: str) -> str | None:
    """Return why no file can have this path, None if one can."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:
        return "its path is not Unicode"
    if 0 in content:
        return "its path holds a null character"
    if len(content) > _MAX_PATH or max(map(len, content.split(b"/"))) > _MAX_NAME:
        return f"its path is too long: a name may have {_MAX_NAME} bytes, a path {_MAX_PATH}"
    return None


def _read_json_list(path: Path) -> tuple[Kind, tuple[ListLine, ...]]:
    entries = read_json(path, what="list")
    if not isinstance(entries, list) or not entries:
        raise BadDataError(
            f'The list {path} must be a JSON array of entries such as {{"filename": "a.mp4", "label": 3}}, not empty.'
        )
    first = entries[0] if isinstance(entries[0], dict) else {}
    if not first.keys() & _JSON_KEYS.values():
        raise BadDataError(
            f"The entries of the list {path} have the keys {shown(', '.join(map(str, first)) or 'none')}; expected "
            '"filename" and "label" for videos, or "frame_dir", "total_frames" and "label" for folders of frames.'
        )
    kind: Kind = "videos" if _JSON_KEYS["videos"] in first else "rawframes"
    if kind == "rawframes" and any(isinstance(entry, dict) and "offset" in entry for entry in entries):
        kind = "rawframes_with_offset"
    return kind, tuple(_json_line(number, entry, kind) for number, entry in enumerate(entries, 1))


def _json_line(number: int, entry: Any, kind: Kind) -> ListLine:
    text = shown(entry)
    if not isinstance(entry, dict):
        return ListLine(number, text, None, "it is not an object")
    name, label = entry.get(_JSON_KEYS[kind]), entry.get("label")
    if isinstance(label, list) and len(label) == 1:
        (label,) = label
    keys = _JSON_COUNTS[kind]
    numbers: list[Any] = [*(entry.get(key, 0 if key == "offset" else None) for key in keys), label]
    if not isinstance(name, str) or not name:
        return ListLine(number, text, None, f'it has no "{_JSON_KEYS[kind]}"')
    if label is None:
        one_hot = "; one-hot labels are not read: write the number of the class" if "onehot" in entry else ""
        return ListLine(number, text, None, f'it has no "label"{one_hot}')
    if isinstance(label, list):
        return ListLine(number, text, None, "it has several labels; only one is supported")
    if not all(type(value) is int and 0 <= value < _LIMIT for value in numbers):
        return ListLine(
            number, text, None, f"expected {', '.join((*keys, 'label'))} to be integers of at most 9 digits"
        )
    return _line(number, text, _annotation(name, numbers, kind))


def _kind_of(lines: Sequence[str]) -> Kind:
    kinds = Counter(_kind_of_line(line) for line in lines)
    return kinds.most_common(1)[0][0]


def _kind_of_line(line: str) -> Kind:
    """Return the kind with the most numbers that still leaves a name before them."""
    for kind in ("rawframes_with_offset", "rawframes"):
        words = line.rsplit(maxsplit=_NUMBERS[kind])
        if len(words) > _NUMBERS[kind] and all(map(_NUMBER.fullmatch, words[1:])):
            return kind
    return "videos"


def _parse(number: int, line: str, kind: Kind) -> ListLine:
    count = _NUMBERS[kind]
    name, *words = line.rsplit(maxsplit=count)
    if len(words) != count or not all(map(_NUMBER.fullmatch, words)):
        fault = f"expected a name and {count} integer(s) of at most 9 digits, separated by spaces or tabs"
        return ListLine(number, line, None, fault)
    return _line(number, line, _annotation(name, [int(word) for word in words], kind))


def _line(number: int, text: str, annotation: Annotation) -> ListLine:
    fault = path_fault(annotation.path)
    return ListLine(number, text, None if fault else annotation, fault)


def _annotation(name: str, numbers: Sequence[int], kind: Kind) -> Annotation:
    if kind == "videos":
        return Annotation(name, name, None, numbers[-1])
    if kind == "rawframes":
        return Annotation(name, name, numbers[0], numbers[-1])
    return Annotation(f"{name}@{numbers[0]}", name, numbers[1], numbers[-1], offset=numbers[0])


def _fault(
    annotation: Annotation, num_classes: int | None, before: dict[str, tuple[int, Annotation]]
) -> str | None:
    if leaves_data_root(annotation):
        return "the path leaves the data root; write it relative to --data_root and without '..'"
    if num_classes is not None and annotation.label >= num_classes:
        return f"label {annotation.label}, but the recipe has the classes 0 to {num_classes - 1}"
    if annotation.id in before:
        return f"the same sample as in line {before[annotation.id][0]}"
    return None
