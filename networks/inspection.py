"""The command `inspect`: the format of a checkpoint or ONNX file, the network in it, and the recipes that it fits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks.checkpoints.any_file import read_any
from networks.checkpoints.checkpoint import Difference, PlainValue, Shape, shapes_of
from networks.checkpoints.opening import checkpoint_file
from networks.detect import Detected, Fit, complete, count_elements, detect, fit, prefixes
from networks.onnx_inspection import inspect_onnx, is_onnx
from networks.training_config import read_config
from vidom.files import human_bytes
from vidom.formats.recipe import Recipe, load_recipe, recipe_names
from vidom.options import option, read_options
from vidom.wording import shown

__all__ = ["InspectOptions", "Inspection", "as_document", "as_text", "inspect_checkpoint", "main"]

_ROWS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Show what a checkpoint or ONNX file contains and which recipes it fits."""

    file: Path = option(".pth, .safetensors, .pdparams, .pdiparams, .ckpt, .mindir or .onnx", "file")
    json: bool = option("print JSON", default=False)


@dataclass(frozen=True)
class Inspection:
    """The contents of a checkpoint file; `detected` is None for a network that is not one of the four.

    `trained` and `statistics` count numbers. `prefixes` are the first parts of its keys with their counts, `fits` has
    an entry for each recipe of the detected network, `published` are the recipes whose published file has this name.
    """

    path: Path
    bytes: int
    sha256: str
    framework: str
    layout: str
    notes: tuple[str, ...]
    meta: Mapping[str, PlainValue]
    trained: int
    statistics: int
    prefixes: Mapping[str, int]
    detected: Detected | None
    fits: tuple[Fit, ...]
    published: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether one of the networks can load these tensors."""
        return self.detected is not None and not self.detected.differences


def inspect_checkpoint(path: Path | str, *, recipes: Iterable[Recipe]) -> Inspection:
    """Return what the file at `path` contains and whether it fits each of the recipes for its network.

    The complete file is read, so that damage is detected, and nothing in it is executed; memory is that of its tensors.
    Raises UsageError and BadDataError as `read_any` does.
    """
    path = Path(path)
    read = read_any(path)
    shapes = shapes_of(read.state_dict)
    config = read_config(read)
    detected = detect(shapes)
    trained, statistics = count_elements(shapes)
    candidates = [one for one in recipes if detected is not None and one.network.arch == detected.arch]
    return Inspection(
        path=path,
        bytes=path.stat().st_size,
        sha256=read.sha256,
        framework=read.framework,
        layout=read.layout,
        notes=read.notes,
        meta=read.meta,
        trained=trained,
        statistics=statistics,
        prefixes=prefixes(shapes),
        detected=detected,
        fits=tuple(fit(detected, shapes, one, config=config) for one in candidates if detected is not None),
        published=tuple(one.name for one in candidates if Path(one.checkpoint.file).name == path.name),
    )


def as_document(found: Inspection) -> dict[str, Any]:
    """Return the inspection as a JSON document; `network` is null where none was detected."""
    network = found.detected
    return {
        "file": str(found.path),
        "bytes": found.bytes,
        "sha256": found.sha256,
        "framework": found.framework,
        "layout": found.layout,
        "notes": found.notes,
        "meta": {
            shown(key): shown(value) if isinstance(value, str) else value for key, value in found.meta.items()
        },
        "parameters": {"trained": found.trained, "statistics": found.statistics},
        "prefixes": {shown(start): count for start, count in found.prefixes.items()},
        "network": network
        and {
            "arch": network.arch,
            "title": network.title,
            "arguments": network.arguments,
            "whole": found.complete,
            "differences": [_row(one) for one in network.differences],
        },
        "recipes": [
            {
                "recipe": one.recipe,
                "fits": one.fits,
                "named_there": one.recipe in found.published,
                "arguments": {
                    name: {"wanted": expected, "found": value} for name, expected, value in one.arguments
                },
                "trained_with": {
                    row.key: {"wanted": row.expected, "found": row.trained} for row in one.contradictions
                },
                "differences": [_row(row) for row in one.differences],
            }
            for one in found.fits
        ],
    }


def as_text(found: Inspection) -> str:
    """Return the inspection as text for the terminal."""
    network = "unknown"
    if found.detected is not None:
        arguments = ", ".join(f"{name} {value}" for name, value in found.detected.arguments.items())
        network = f"{found.detected.title}: {arguments}"
    lines = [
        ("file", f"{found.path} ({human_bytes(found.bytes)})"),
        ("sha256", found.sha256),
        ("framework", found.framework),
        ("layout", shown(found.layout)),
        ("network", network),
        ("parameters", f"{found.trained:,} trained, {found.statistics:,} normalisation statistics"),
    ]
    lines += [("note", note) for note in found.notes]
    if found.meta:
        meta = ", ".join(f"{key} {value}" for key, value in found.meta.items())
        lines.append(("meta", shown(meta)))
    text = [f"{name:<11}{value}" for name, value in lines]
    if found.detected is not None and not found.complete:
        text += ["incomplete: no variant of this network can load it", *_rows(found.detected.differences)]
    if found.detected is None:
        text += [
            "keys",
            *(f"  {shown(start):<40}{count:>6}" for start, count in list(found.prefixes.items())[:40]),
        ]
    width = max((len(one.recipe) for one in found.fits), default=0)
    for one in found.fits:
        text.append(f"{'recipe':<11}{one.recipe:<{width}}  {_verdict(one, found)}")
        # A different argument explains the keys that differ because of it.
        text += () if one.arguments else _rows(one.differences)
    return "\n".join(text)


def _verdict(one: Fit, found: Inspection) -> str:
    if one.fits:
        return "fits" + (" and has the name of its published file" if one.recipe in found.published else "")
    reasons = [f"{name} is {value}, expected {expected}" for name, expected, value in one.arguments]
    shown_already = {name for name, _, _ in one.arguments}
    reasons += [str(row) for row in one.contradictions if row.name not in shown_already]
    if one.differences:
        kinds = Counter(_kind(row) for row in one.differences)
        reasons.append(f"keys: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    return f"does not fit: {'; '.join(reasons)}"


def _kind(row: Difference) -> str:
    if row.found is None:
        return "missing"
    return "unexpected" if row.expected is None else "of a different shape"


def _rows(rows: tuple[Difference, ...]) -> Iterator[str]:
    for row in rows[:_ROWS_SHOWN]:
        yield f"    {shown(row.key)}: expected {_shape(row.expected)}, found {_shape(row.found)}"
    if len(rows) > _ROWS_SHOWN:
        yield f"    and {len(rows) - _ROWS_SHOWN} more (--json lists them)"


def _shape(shape: Shape | None) -> str:
    return "none" if shape is None else str(list(shape))


def _row(row: Difference) -> dict[str, Any]:
    return {"key": row.key, "wanted": row.expected, "found": row.found}


def main(argv: Sequence[str] | None = None) -> None:
    """Print what the file contains; raise BadDataError afterwards where no network can load a checkpoint."""
    options = read_options(InspectOptions, argv, prog="vidom inspect")
    path = checkpoint_file(options.file)
    recipes = [load_recipe(name) for name in recipe_names()]
    if is_onnx(path):
        model = inspect_onnx(path, recipes=recipes)
        print(json.dumps(model.document(), indent=2) if options.json else model.text())
        return
    found = inspect_checkpoint(path, recipes=recipes)
    print(json.dumps(as_document(found), indent=2) if options.json else as_text(found))
    complete(found.detected, found.path, found.prefixes)
