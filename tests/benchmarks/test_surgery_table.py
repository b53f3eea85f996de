from __future__ import annotations

import json
from pathlib import Path

import onnx

from benchmarks.surgery import surgery


def test_the_table_tells_of_each_opset_what_the_graphs_hold(tmp_path: Path):
    rows = surgery(recipes=["tsm_demo"], output_dir=tmp_path, rounds=1, threads=1)
    assert [row.opset for row in rows] == [11, 13]
    for row in rows:
        graphs = [onnx.load(tmp_path / f"tsm_demo_{row.opset}{suffix}.onnx").graph for suffix in ("", "_new")]
        assert row.ops == tuple(len(graph.node) for graph in graphs)
        assert row.slices == tuple(sum(node.op_type == "Slice" for node in graph.node) for graph in graphs)
        assert row.batches == (1, 2)
        assert row.lint_errors == 0
        assert row.relative_logits < 1e-4
        assert row.time > 0 and row.time_as_written > 0
    assert json.loads((tmp_path / "surgery.json").read_text())["npu_used"] is False
    assert (tmp_path / "surgery.md").read_text().count("| tsm_demo |") == 2
