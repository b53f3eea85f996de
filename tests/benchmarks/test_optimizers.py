"""The comparison of surgeons: with auto-optimizer itself on a small graph, with a stand-in where it must fail."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from auto_optimizer_venv import auto_optimizer_python

# Graphs and the stand-in for auto-optimizer belong to the tests of the room that operates.
sys.path.append(str(Path(__file__).parents[1] / "export"))
from stub_auto_optimizer import StubAutoOptimizer
from surgery_graphs import shift_graph

from benchmarks.measuring import graph_times
from benchmarks.surgery.optimizers import main, surgeons
from vidom.errors import UnavailableError, UsageError


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "tsm.onnx"
    ir.save(shift_graph(batch=1, views=1, segments=4, channels=8, classes=5), path)
    return path


def test_both_surgeons_on_a_small_tsm(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    auto_optimizer_python()
    monkeypatch.delenv("AUTO_OPTIMIZER_PYTHON", raising=False)
    folder = exported.with_name("out")
    assert main(["--model", str(exported), "--output_dir", str(folder), "--rounds", "3"]) == 0
    text = (folder / "surgeons.md").read_text()
    assert capsys.readouterr().out == text
    assert "NPU none took part" in text
    assert "ait-surgeon 0.1.1" in text
    document = json.loads((folder / "surgeons.json").read_text())
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


def test_a_graph_that_means_something_else_is_not_timed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stand_in"
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
    """A session whose runs take the seconds it is given, on a clock that only it moves."""

    now = 0.0

    def __init__(self, name: str, seconds: list[float], turns: list[str]) -> None:
        self.name, self.seconds, self.turns = name, iter(seconds), turns

    def run(self, sample: dict[str, Any]) -> None:
        self.turns.append(self.name)
        Clock.now += next(self.seconds)


def test_graphs_run_in_turn_and_the_fastest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    seconds = {"a": [0.5, 4, 3, 0.5, 8, 7], "b": [9, 2, 6, 9, 5, 1]}
    sessions = {name: Clock(name, given, turns) for name, given in seconds.items()}
    monkeypatch.setattr(graph_times, "Session", lambda path, **options: sessions[path.name])
    monkeypatch.setattr("time.perf_counter", lambda: Clock.now)
    found = graph_times.measured_times([Path("a"), None, Path("b")], {}, rounds=2, threads=1)
    assert turns == ["a", "b"] * 6
    # The first run of each, fast or slow, is left out.
    assert found == [(3, 7), (None, None), (2, 1)]


def test_orders_that_cannot_be_followed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--rounds"):
        surgeons(model=exported, output_dir=tmp_path, rounds=0)
    monkeypatch.setenv("AUTO_OPTIMIZER_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="make auto-optimizer"):
        surgeons(model=exported, output_dir=tmp_path)
    assert not (tmp_path / "vidom.onnx").exists()
