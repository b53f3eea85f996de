"""The record of built models, `build.json` next to them: {"models": {"NAME.onnx": {"made_from": {…}, …}}}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidom.bounded_reading import read_json
from vidom.errors import BadDataError

__all__ = ["BUILD_RECORD", "read_built"]

BUILD_RECORD = "build.json"


def read_built(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the models that were built in `folder` by name, whose `made_from` is a dictionary too.

    Without a record there are none. Raises BadDataError for a file that is no such record.
    """
    path = folder / BUILD_RECORD
    if not path.exists():
        return {}
    document = read_json(path, what="build record")
    models = document.get("models") if isinstance(document, dict) else None
    entries = models.values() if isinstance(models, dict) else [None]
    if any(not isinstance(entry, dict) or not isinstance(entry.get("made_from"), dict) for entry in entries):
        raise BadDataError(
            f"{path} is not a record of built models. Remove it; the models in {folder} are then built again."
        )
    return dict(models or {})
