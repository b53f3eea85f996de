from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import WEIGHTS, run_evaluation, scores_by_hand, sum_model, write_list, write_recipe

from infer.evaluation.conclusion import score_record
from infer.evaluation.plan import plan_evaluation
from infer.evaluation.record import read_rows
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe


@pytest.mark.slow
def test_the_difference_of_bfloat16_is_reported(tmp_path: Path):
    openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16 instructions")
    annotations = write_list(tmp_path / "list.txt", 6)
    # 257 is the smallest integer that bfloat16 cannot represent; float32 represents all sums of it here.
    weights = 257 * WEIGHTS
    weights[:, 1] = weights[:, 0] + (weights[:, 0] > 0)
    model = sum_model(tmp_path / "m.onnx", 4, weights=weights)
    recipe = load_recipe(str(write_recipe(tmp_path)))
    result = run_evaluation(tmp_path / "out", model, annotations, engine="openvino", precision="bf16")
    truth = scores_by_hand(annotations, recipe, weights)
    rows = {row.index: row.scores for row in read_rows(tmp_path / "out" / "record.jsonl")}
    scores = np.array([rows[index] for index in range(6)])
    check = result.precision_check
    assert check is not None and (check.samples, check.of) == (6, 6)
    assert check.top1_flips == int((scores.argmax(1) != truth.argmax(1)).sum())
    assert check.max_difference == np.abs(scores - truth).max() > 0
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["bf16_against_f32"]["max_difference"] == check.max_difference
    plain = run_evaluation(tmp_path / "f32", model, annotations, engine="openvino")
    assert plain.precision_check is None and "bf16" not in (tmp_path / "f32" / "evaluation.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda rows: [*rows, rows[3]], r"1 samples have several \(2 \(s002\)\)"),
        (lambda rows: rows[:-1], r"1 samples have no row \(5 \(s005\)\)"),
        (lambda rows: [*rows[:2], *rows[3:]], r"1 samples have no row \(1 \(s001\)\)"),
    ],
)
def test_a_record_with_a_missing_or_duplicate_id_is_not_scored(tamper, message: str, tmp_path: Path):
    recipe = load_recipe(str(write_recipe(tmp_path)))
    annotations = write_list(tmp_path / "list.txt", 6)
    run_evaluation(tmp_path / "out", sum_model(tmp_path / "m.onnx", 2), annotations)
    record = tmp_path / "tampered.jsonl"
    record.write_bytes(
        b"".join(tamper((tmp_path / "out" / "record.jsonl").read_bytes().splitlines(keepends=True)))
    )
    plan = plan_evaluation(recipe=recipe, data_root=tmp_path / "data", ann_file=annotations)
    with pytest.raises(BadDataError, match=message):
        score_record(record, plan, {}, output=tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()
