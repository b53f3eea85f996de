"""What a checkpoint file is: its format, the network in it, and which recipes it suits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import Difference, PlainValue, Shape, shapes_of
from networks.detect import Fit, Recognised, count_elements, fit, prefixes, recognise
from vidom.files import human_bytes
from vidom.formats.recipe import Recipe

__all__ = ["Inspection", "as_document", "as_text", "inspect_checkpoint", "plain"]

_ROWS_SHOWN = 3
_WIDEST = 200


@dataclass(frozen=True)
class Inspection:
    """A checkpoint file by its contents; `recognised` is None for a network that is not one of the four.

    `trained` and `statistics` count numbers. `prefixes` are the beginnings of its keys with their counts, `fits`
    one entry for each recipe of the recognised network, `published` the recipes that name this very file.
    """

    path: Path
    bytes: int
    sha256: str
    framework: str
    layout: str
    meta: Mapping[str, PlainValue]
    trained: int
    statistics: int
    prefixes: Mapping[str, int]
    recognised: Recognised | None
    fits: tuple[Fit, ...]
    published: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether a network here takes these tensors as they are."""
        return self.recognised is not None and not self.recognised.differences


def inspect_checkpoint(path: Path | str, *, recipes: Iterable[Recipe]) -> Inspection:
    """Return what the file at `path` holds and how it suits each of the recipes for its network.

    The file is read whole, so that damage shows, and nothing in it is executed; memory is that of its tensors. Raises
    UsageError and BadDataError as `read_any` does.
    """
    path = Path(path)
    read = read_any(path)
    shapes = shapes_of(read.checkpoint.state_dict)
    recognised = recognise(shapes)
    trained, statistics = count_elements(shapes)
    suitable = [one for one in recipes if recognised is not None and one.network.arch == recognised.arch]
    return Inspection(
        path=path,
        bytes=path.stat().st_size,
        sha256=read.checkpoint.sha256,
        framework=read.framework,
        layout=read.layout,
        meta=read.checkpoint.meta,
        trained=trained,
        statistics=statistics,
        prefixes=prefixes(shapes),
        recognised=recognised,
        fits=tuple(fit(recognised, shapes, one) for one in suitable if recognised is not None),
        published=tuple(one.name for one in suitable if Path(one.checkpoint.file).name == path.name),
    )


def as_document(found: Inspection) -> dict[str, Any]:
    """Return the inspection as it stands in JSON; `network` is null where none was recognised."""
    network = found.recognised
    return {
        "file": str(found.path),
        "bytes": found.bytes,
        "sha256": found.sha256,
        "framework": found.framework,
        "layout": found.layout,
        "meta": {key: plain(value) if isinstance(value, str) else value for key, value in found.meta.items()},
        "parameters": {"trained": found.trained, "statistics": found.statistics},
        "prefixes": {plain(start): count for start, count in found.prefixes.items()},
        "network": network
        and {
            "arch": network.arch,
            "title": network.title,
            "arguments": network.arguments,
            "whole": found.whole,
            "differences": [_row(one) for one in network.differences],
        },
        "recipes": [
            {
                "recipe": one.recipe,
                "fits": not one.differences,
                "named_there": one.recipe in found.published,
                "arguments": {name: {"wanted": wanted, "found": has} for name, wanted, has in one.arguments},
                "differences": [_row(row) for row in one.differences],
            }
            for one in found.fits
        ],
    }


def as_text(found: Inspection) -> str:
    """Return the inspection as a person reads it."""
    network = "not recognised"
    if found.recognised is not None:
        arguments = ", ".join(f"{name} {value}" for name, value in found.recognised.arguments.items())
        network = f"{found.recognised.title}: {arguments}"
    lines = [
        ("file", f"{found.path} ({human_bytes(found.bytes)})"),
        ("sha256", found.sha256),
        ("framework", found.framework),
        ("layout", plain(found.layout)),
        ("network", network),
        ("parameters", f"{found.trained:,} trained, {found.statistics:,} statistics of normalisations"),
    ]
    if found.meta:
        told = ", ".join(f"{key} {value}" for key, value in found.meta.items())
        lines.append(("meta", plain(told)))
    text = [f"{name:<11}{value}" for name, value in lines]
    if found.recognised is not None and not found.whole:
        text += ["incomplete: no variant of this network takes it", *_rows(found.recognised.differences)]
    if found.recognised is None:
        text += [
            "keys",
            *(f"  {plain(start):<40}{count:>6}" for start, count in list(found.prefixes.items())[:40]),
        ]
    width = max((len(one.recipe) for one in found.fits), default=0)
    for one in found.fits:
        text.append(f"{'recipe':<11}{one.recipe:<{width}}  {_verdict(one, found)}")
        # An argument that differs says more than the keys that differ because of it.
        text += () if one.arguments else _rows(one.differences)
    return "\n".join(text)


def plain(text: str) -> str:
    """Return a text of the file, shortened, with what a terminal would obey replaced by question marks."""
    kept = "".join(letter if letter.isprintable() else "?" for letter in text[: _WIDEST + 1])
    return kept if len(text) <= _WIDEST else f"{kept[:_WIDEST]}..."


def _verdict(one: Fit, found: Inspection) -> str:
    if not one.differences:
        return "fits" + (", and has the name of its published file" if one.recipe in found.published else "")
    kinds = Counter(_kind(row) for row in one.differences)
    keys = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    reasons = [f"{name} is {has}, it wants {wanted}" for name, wanted, has in one.arguments]
    return f"does not fit: {'; '.join([*reasons, f'keys: {keys}'])}"


def _kind(row: Difference) -> str:
    if row.found is None:
        return "missing"
    return "unexpected" if row.wanted is None else "of another shape"


def _rows(rows: tuple[Difference, ...]) -> Iterator[str]:
    for row in rows[:_ROWS_SHOWN]:
        yield f"    {plain(row.key)}: expected {_shape(row.wanted)}, found {_shape(row.found)}"
    if len(rows) > _ROWS_SHOWN:
        yield f"    and {len(rows) - _ROWS_SHOWN} more (--json lists them)"


def _shape(shape: Shape | None) -> str:
    return "none" if shape is None else str(list(shape))


def _row(row: Difference) -> dict[str, Any]:
    return {"key": row.key, "wanted": row.wanted, "found": row.found}
