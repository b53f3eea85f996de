from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import run_evaluation, sum_model, write_list, write_recipe

from infer.evaluation.comparison import compare_records, record_in
from infer.evaluation.record import Row, RowRecord
from vidom.errors import BadDataError


def record(folder: Path, choices: dict[str, int], labels: dict[str, int]) -> Path:
    """A record whose rows have their largest score at `choices`."""
    written = RowRecord(folder, {"model_sha256": folder.name})
    rows = [
        Row(index, name, labels[name], np.eye(3, dtype=np.float32)[choice])
        for index, (name, choice) in enumerate(choices.items())
    ]
    written.add(rows[::-1])
    written.close()
    return written.path


LABELS = {name: number % 3 for number, name in enumerate("abcdefgh")}


def test_regressions_and_fixes_by_hand(tmp_path: Path):
    # Right there: a b c d e; g is wrong both times, but differently.
    there = record(
        tmp_path / "there",
        {"a": 0, "b": 1, "c": 2, "d": 0, "e": 1, "f": 0, "g": 1, "x": 2},
        LABELS | {"x": 2},
    )
    here = record(tmp_path / "here", {"g": 2, "f": 2, "e": 0, "d": 2, "c": 0, "b": 1, "a": 0, "h": 1}, LABELS)
    comparison = compare_records(here, there, output=tmp_path / "c.json")
    paired = comparison.paired
    assert (paired.n, paired.reference_correct, paired.correct) == (7, 5, 3)
    assert (paired.regressions, paired.fixes, paired.disagreements) == (3, 1, 5)
    # Four flips, one of the rarer kind: 2 (1 + 4) / 16.
    assert paired.p == 0.625
    assert (comparison.only_here, comparison.only_there) == (1, 1)
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["difference"] == -2 / 7
    assert document["interval_95"] == [paired.low, paired.high]
    assert (document["here"]["model_sha256"], document["there"]["model_sha256"]) == ("here", "there")
    assert sorted(entry["id"] for entry in document["disagreements"]) == ["c", "d", "e", "f", "g"]
    assert {"index": 2, "id": "e", "label": 1, "here": 0, "there": 1} in document["disagreements"]
    assert "3 regressions, 1 fixes, 5 predictions changed in total" in comparison.text
    assert "1 samples only in this run, 1 only in the reference" in comparison.text


def test_what_cannot_be_compared(tmp_path: Path):
    here = record(tmp_path / "here", {"a": 0, "b": 1}, LABELS)
    with pytest.raises(BadDataError, match="1 samples have different labels in .*: b"):
        compare_records(
            here, record(tmp_path / "l", {"a": 0, "b": 1}, {"a": 0, "b": 2}), output=tmp_path / "c"
        )
    with pytest.raises(BadDataError, match="no sample in common"):
        compare_records(here, record(tmp_path / "o", {"c": 0}, LABELS), output=tmp_path / "c")
    with pytest.raises(BadDataError, match=r"has no record\.jsonl"):
        record_in(tmp_path)
    (tmp_path / "metrics.json").write_text("{}\n")
    with pytest.raises(BadDataError, match="is not the record of an evaluation"):
        record_in(tmp_path / "metrics.json")
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_two_models_on_one_list(tmp_path: Path):
    write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 21)
    model = sum_model(tmp_path / "m.onnx", 4)
    reversed_model = sum_model(
        tmp_path / "r.onnx", 1, weights=np.random.default_rng(8).integers(-2, 3, (384, 7)).astype(np.float32)
    )
    whole = run_evaluation(tmp_path / "whole", model, annotations)
    part = run_evaluation(tmp_path / "part", model, annotations, limit=7, compare=tmp_path / "whole")
    assert part.comparison is not None and part.comparison.paired.disagreements == 0
    assert (part.comparison.paired.n, part.comparison.only_there) == (7, 14)
    other = run_evaluation(
        tmp_path / "other", reversed_model, annotations, compare=tmp_path / "whole" / "record.jsonl"
    )
    assert other.comparison is not None
    paired = other.comparison.paired
    assert (paired.correct, paired.reference_correct) == (
        other.metrics.top1.correct,
        whole.metrics.top1.correct,
    )
    assert paired.correct - paired.reference_correct == paired.fixes - paired.regressions
    assert paired.disagreements > 0
    assert (tmp_path / "other" / "comparison.json").exists()
