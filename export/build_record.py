"""The build record: `build.json` next to a built model states its inputs, tools and parity results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vidom.files import sha256_file, write_json
from vidom.folder_lock import locked_folder
from vidom.formats.built_models import BUILD_RECORD, read_built
from vidom.system.source_digest import sources_digest

__all__ = ["BUILD_RECORD", "code_digest", "is_fresh", "read_record", "tool_versions", "write_record"]

_PACKAGES = ("vidom", "networks", "export")
_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


@cache
def code_digest() -> str:
    """Return a SHA-256 over the sources that determine a built model, so that changed code makes it stale."""
    return sources_digest(_PACKAGES)


def tool_versions() -> dict[str, str]:
    """Return the versions of the packages that a build uses."""
    return {name: version(name) for name in _TOOLS}


def read_record(model: Path) -> dict[str, Any]:
    """Return the entry of `model` in `build.json`, an empty dictionary if there is none."""
    return read_built(model.parent).get(model.name, {})


def write_record(model: Path, made_from: Mapping[str, Any], **facts: Any) -> None:
    """Write the entry of `model` in `build.json`: what it was made from, its hash, tool versions and `facts`.

    Raises UnavailableError while another process builds in the folder; commands lock it from their start.
    """
    with locked_folder(model.parent):
        entry = {
            "sha256": sha256_file(model),
            "made_from": dict(made_from),
            "tools": tool_versions(),
            **facts,
        }
        write_json(model.parent / BUILD_RECORD, {"models": {**read_built(model.parent), model.name: entry}})


def is_fresh(model: Path, made_from: Mapping[str, Any]) -> bool:
    """Return whether `model` exists, unchanged, and was made from exactly `made_from` with these tools."""
    entry = read_record(model)
    return (
        model.is_file()
        and entry.get("made_from") == dict(made_from)
        and entry.get("tools") == tool_versions()
        and entry.get("sha256") == sha256_file(model)
    )
