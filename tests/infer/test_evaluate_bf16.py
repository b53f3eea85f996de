from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import WEIGHTS, run_evaluation, scores_by_hand, sum_model, write_list, write_recipe

from infer.evaluation.score_record import read_rows
from vidom.formats.recipe import load_recipe

openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")


@pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16 instructions",
)
def test_what_bfloat16_changes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations = write_list(tmp_path / "list.txt", 6)
    # 257 is the first whole number that bfloat16 does not hold; float32 holds all sums of it here.
    weights = 257 * WEIGHTS
    weights[:, 1] = weights[:, 0] + (weights[:, 0] > 0)
    model = sum_model(tmp_path / "m.onnx", 4, weights=weights)
    recipe = load_recipe(str(write_recipe(tmp_path)))
    result = run_evaluation(tmp_path / "out", model, annotations, engine="openvino", precision="bf16")
    truth = scores_by_hand(annotations, recipe, weights)
    rows = {row.index: row.scores for row in read_rows(tmp_path / "out" / "record.jsonl")}
    found = np.array([rows[index] for index in range(6)])
    check = result.precision_check
    assert check is not None and (check.samples, check.of) == (6, 6)
    assert check.top1_flips == int((found.argmax(1) != truth.argmax(1)).sum())
    assert check.max_difference == np.abs(found - truth).max() > 0
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["bf16_against_f32"]["max_difference"] == check.max_difference
    plain = run_evaluation(tmp_path / "f32", model, annotations, engine="openvino")
    assert plain.precision_check is None and "bf16" not in (tmp_path / "f32" / "evaluation.json").read_text()
