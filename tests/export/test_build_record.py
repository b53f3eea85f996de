from __future__ import annotations

from pathlib import Path

import pytest

import vidom.system.source_digest
from export.build_record import code_digest, is_fresh, read_record, write_record


@pytest.mark.parametrize(
    "source", ["vidom/files.py", "networks/tsm.py", "export/surgery/passes/set_batch.py"]
)
def test_changed_code_of_any_package_that_builds_makes_a_model_stale(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("vidom", "networks", "export", "benchmarks"):
        (tmp_path / package / "surgery" / "passes").mkdir(parents=True)
    path = tmp_path / source
    path.write_text("before")
    anchor = tmp_path / "vidom" / "system" / "source_digest.py"
    monkeypatch.setattr(vidom.system.source_digest, "__file__", str(anchor))
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    code_digest.cache_clear()
    try:
        write_record(model, {"code_sha256": code_digest()})
        (tmp_path / "benchmarks" / "table.py").write_text("does not build models")
        code_digest.cache_clear()
        assert is_fresh(model, {"code_sha256": code_digest()})
        path.write_text("after")
        code_digest.cache_clear()
        assert not is_fresh(model, {"code_sha256": code_digest()})
    finally:
        code_digest.cache_clear()


def test_a_model_is_stale_once_it_or_what_it_was_made_from_differs(tmp_path: Path):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    assert read_record(model) == {} and not is_fresh(model, {"batch_size": 1})
    write_record(model, {"batch_size": 1}, note="kept")
    assert read_record(model)["note"] == "kept"
    assert is_fresh(model, {"batch_size": 1})
    assert not is_fresh(model, {"batch_size": 2})
    model.write_bytes(b"changed")
    assert not is_fresh(model, {"batch_size": 1})
