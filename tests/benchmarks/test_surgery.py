from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from benchmarks.surgery.__main__ import SurgeryOptions, surgery


@pytest.mark.slow
def test_the_table_has_the_operators_of_each_opset(tmp_path: Path):
    report = surgery(SurgeryOptions(recipes=("tsm_demo",), output_dir=tmp_path, rounds=1, threads=1))
    rows = report.tables[0].rows
    assert [row[:2] for row in rows] == [("tsm_demo", 11), ("tsm_demo", 13)]
    for _, opset, *ops, batches, difference, errors, time, time_as_written in rows:
        graphs = [onnx.load(tmp_path / f"tsm_demo_{opset}{suffix}.onnx").graph for suffix in ("", "_new")]
        slices = [sum(node.op_type == "Slice" for node in graph.node) for graph in graphs]
        assert ops == [*(len(graph.node) for graph in graphs), *slices]
        assert batches == "1, 2"
        assert errors == 0
        assert difference < 1e-4
        assert time > 0 and time_as_written > 0
    document = json.loads((tmp_path / "surgery.json").read_text())
    assert document["conditions"]["NPU"] == "not used"
    assert (tmp_path / "surgery.md").read_text().count("| tsm_demo |") == 2
