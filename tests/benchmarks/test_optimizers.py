"""The comparison of optimizers: with auto-optimizer on a small graph, with a stub where it must fail."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from auto_optimizer_venv import auto_optimizer_python
from stub_auto_optimizer import StubAutoOptimizer
from surgery_graphs import shift_graph

from benchmarks.measuring import graph_times
from benchmarks.surgery.optimizers import OptimizersOptions, main, optimizers
from vidom.errors import UnavailableError, UsageError


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "tsm.onnx"
    ir.save(shift_graph(batch=1, views=1, segments=4, channels=8, classes=5), path)
    return path


@pytest.mark.slow
def test_both_optimizers_on_a_small_tsm(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    auto_optimizer_python()
    monkeypatch.delenv("AUTO_OPTIMIZER_PYTHON", raising=False)
    folder = exported.with_name("out")
    assert main(["--model", str(exported), "--output_dir", str(folder), "--rounds", "3"]) == 0
    text = (folder / "optimizers.md").read_text()
    assert capsys.readouterr().out == text
    assert "NPU not used" in text
    assert "ait-surgeon 0.1.1" in text
    document = json.loads((folder / "optimizers.json").read_text())
    (table,) = document["tables"]
    head, rows = table["columns"], table["rows"]
    assert [head.count(name) for name in ("ops", "Slice", "Concat", "Sub", "Pad", "MatMul")] == [1] * 5 + [0]
    files = ["../tsm.onnx"] * 2 + ["auto_optimizer.onnx", "vidom.onnx", "both.onnx"]
    first = rows[0][head.index("ms as written")]
    for file, row in zip(files, rows, strict=False):
        counts = Counter(node.op_type for node in onnx.load(folder / file).graph.node)
        assert [row[head.index(name)] for name in ("Slice", "Sub")] == [counts["Slice"], counts["Sub"]]
        assert row[head.index("ops")] == counts.total()
        ratio = row[head.index("ms as written")] / first
        assert row[head.index("time as written")] == pytest.approx(ratio)
    assert len(rows) == 6
    assert rows[0][head.index("time")] == 1
    assert {target["what"].split(":")[0] for target in document["targets"]} == {row[0] for row in rows[2:]}
    assert all(target["met"] for target in document["targets"])


@pytest.mark.slow
def test_a_graph_with_different_outputs_is_not_timed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stub"
    folder.mkdir()
    monkeypatch.setenv("AUTO_OPTIMIZER_PYTHON", str(folder / "python"))
    StubAutoOptimizer(folder).behaves("other outputs")
    assert main(["--model", str(exported), "--output_dir", str(tmp_path / "out"), "--rounds", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = {line.removeprefix("- FAILED ").split(": ")[0] for line in lines if line.startswith("- FAILED")}
    assert len(failed) == 3
    assert all("auto-optimizer" in name for name in failed)
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert [rows[name].count("| – ") for name in failed] == [4] * 3
    assert "–" not in rows["vidom"]


class Clock:
    """A session whose runs take the given seconds on a fake clock."""

    now = 0.0

    def __init__(self, name: str, seconds: list[float], order: list[str]) -> None:
        self.name, self.seconds, self.order = name, iter(seconds), order

    def run(self, sample: dict[str, Any]) -> None:
        self.order.append(self.name)
        Clock.now += next(self.seconds)


def test_graphs_are_interleaved_and_the_fastest_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    seconds = {"a": [0.5, 4, 3, 0.5, 8, 7], "b": [9, 2, 6, 9, 5, 1]}
    sessions = {name: Clock(name, given, order) for name, given in seconds.items()}
    monkeypatch.setattr(graph_times, "Session", lambda path, **options: sessions[path.name])
    monkeypatch.setattr("time.perf_counter", lambda: Clock.now)
    found = graph_times.measured_times([Path("a"), None, Path("b")], {}, rounds=2, threads=1)
    assert order == ["a", "b"] * 6
    # The first run of each, fast or slow, is not counted.
    assert found == [(3, 7), (None, None), (2, 1)]


def test_wrong_options_are_rejected(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--rounds"):
        OptimizersOptions(model=exported, output_dir=tmp_path, rounds=0)
    monkeypatch.setenv("AUTO_OPTIMIZER_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="make auto-optimizer"):
        optimizers(OptimizersOptions(model=exported, output_dir=tmp_path))
    assert not (tmp_path / "vidom.onnx").exists()
