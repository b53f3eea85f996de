from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vidom.system import source_digest as sources


def test_the_number_is_that_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "vidom").mkdir()
    (tmp_path / "room" / "inner").mkdir(parents=True)
    (tmp_path / "room" / "b.py").write_text("b")
    (tmp_path / "room" / "inner" / "a.py").write_text("a")
    (tmp_path / "room" / "notes.md").write_text("no source")
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "vidom" / "sources.py"))
    expected = hashlib.sha256(b"room/b.py" + b"b" + b"room/inner/a.py" + b"a").hexdigest()
    assert sources.sources_digest(["room"]) == expected
    (tmp_path / "room" / "b.py").rename(tmp_path / "room" / "c.py")
    assert sources.sources_digest(["room"]) != expected
