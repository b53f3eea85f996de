from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidom.errors import BadDataError
from vidom.formats.built_models import read_built


def test_entries_are_read_by_name(tmp_path: Path):
    assert read_built(tmp_path) == {}
    entry = {"made_from": {"batch_size": 4}, "sha256": "ab"}
    (tmp_path / "build.json").write_text(json.dumps({"models": {"m.onnx": entry}}))
    assert read_built(tmp_path) == {"m.onnx": entry}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        7,
        {},
        {"models": []},
        {"models": None},
        {"models": {"m": 1}},
        {"models": {"m": {"made_from": []}}},
    ],
)
def test_other_documents_are_bad_data(document: Any, tmp_path: Path):
    (tmp_path / "build.json").write_text(json.dumps(document))
    with pytest.raises(BadDataError, match=r"build\.json is not a record of built models. Remove it"):
        read_built(tmp_path)
