from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vidom.system import source_digest


def test_the_number_is_that_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "vidom").mkdir()
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "b.py").write_text("b")
    (tmp_path / "package" / "inner" / "a.py").write_text("a")
    (tmp_path / "package" / "notes.md").write_text("no source")
    monkeypatch.setattr(source_digest, "__file__", str(tmp_path / "vidom" / "system" / "source_digest.py"))
    expected = hashlib.sha256(b"package/b.py" + b"b" + b"package/inner/a.py" + b"a").hexdigest()
    assert source_digest.sources_digest(["package"]) == expected
    (tmp_path / "package" / "b.py").rename(tmp_path / "package" / "c.py")
    assert source_digest.sources_digest(["package"]) != expected
