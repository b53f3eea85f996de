from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.surgery.passes import PassesOptions, passes


@pytest.mark.slow
def test_each_effective_pass_has_a_row_and_a_verified_graph(tmp_path: Path):
    report = passes(PassesOptions(recipes=("tsm_demo",), output_dir=tmp_path, rounds=1, threads=1))
    assert [table.title for table in report.tables] == ["tsm_demo, for ascend310p", "tsm_demo, for cpu"]
    folder = tmp_path / "passes"
    for table, target in zip(report.tables, ("ascend310p", "cpu"), strict=True):
        made = sorted(folder.glob(f"*_{target}_*"), key=lambda path: int(path.stem.split("_")[-1]))
        files = [folder / "tsm_demo.onnx", *made]
        assert table.rows[0][0] == "original" and len(table.rows) == len(files)
        names = [row[0] for row in table.rows]
        assert {"constant-fold-zeros", "hoist-mean", "time-major"} <= set(names)
        rows = []
        for path, (_, operators, slices, pads, difference, time) in zip(files, table.rows, strict=True):
            nodes = [node.op_type for node in onnx.load(path).graph.node]
            assert (operators, slices, pads) == (len(nodes), nodes.count("Slice"), nodes.count("Pad"))
            assert difference < 1e-4 and time > 0
            rows.append(scores(path))
        for row in rows[1:]:
            np.testing.assert_allclose(row, rows[0], rtol=0, atol=1e-5)
    assert all(target.met for target in report.targets) and len(report.targets) == 2


def scores(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    shape = [1, *entry.shape[1:]]
    sample = np.random.default_rng(3).standard_normal(shape, dtype=np.float32)
    return np.asarray(session.run(None, {entry.name: sample})[0])
