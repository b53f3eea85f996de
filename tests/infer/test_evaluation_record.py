from __future__ import annotations

from pathlib import Path

import numpy as np

from infer.evaluation.record import Row, RowRecord, read_rows


def test_rows_come_back_bit_for_bit(tmp_path: Path):
    scores = np.array([1 / 3, -0.0, 3e38, 1e-45], np.float32)
    record = RowRecord(tmp_path, {"a": 1})
    record.add([Row(7, 'ein "Name" ✓', 3, scores), Row(2, "b", 0, scores[::-1])])
    record.add([Row(7, "again", 3, scores)])
    record.close()
    first, second = read_rows(record.path)
    assert (first.index, first.id, first.label) == (7, 'ein "Name" ✓', 3)
    assert first.scores.tobytes() == scores.tobytes() and second.index == 2
    assert RowRecord(tmp_path, {"a": 1}).done == {2, 7}
