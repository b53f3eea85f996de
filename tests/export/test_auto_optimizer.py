"""The real auto-optimizer, installed by `make auto-optimizer`, on graphs like TSM's."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from auto_optimizer_venv import REPOSITORY, auto_optimizer_python, make
from surgery_graphs import graph, noise, ops, run, shift_graph, skeleton

from export.auto_optimizer.rules import REWRITE_RULES
from export.modify_onnx import main
from export.surgery.model_file import load_model
from vidom.errors import ExternalToolError

BRIDGE = REPOSITORY / "export" / "auto_optimizer" / "bridge.py"
TSM = Path(__file__).parents[1] / "fixtures" / "onnx_skeletons" / "tsm_sthv2_bs1_torch1.9.skeleton.onnx"
SLICES = "KnowledgeMergeConsecutiveSlice"

pytestmark = pytest.mark.slow


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter that has auto-optimizer, found as a user's would be."""
    interpreter = auto_optimizer_python()
    for variable in ("AUTO_OPTIMIZER_PYTHON", "SURGEON_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    return interpreter


def optimized(folder: Path, model: ir.Model, *words: str) -> ir.Model:
    """Return the model after a command that must succeed; opset and IR version are unchanged."""
    ir.save(model, folder / "in.onnx")
    assert main(["-m1", str(folder / "in.onnx"), "-m2", str(folder / "out.onnx"), *words]) == 0
    modified = load_model(folder / "out.onnx")
    assert dict(modified.opset_imports) == {"": 11}
    assert modified.ir_version == model.ir_version
    assert (folder / "out.auto-optimizer.log").stat().st_size
    return modified


def test_slices_are_merged_once_the_zero_blocks_are_gone(
    interpreter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = shift_graph(batch=2, views=3, segments=4, channels=8, classes=5)
    words = ["--passes", "constant-fold-zeros", "--with", f"auto-optimizer={SLICES}"]
    modified = optimized(tmp_path, original, *words)
    assert Counter(ops(original))["Slice"] == 7
    # The two directions of the shift and the rest; 2 went with `x - x`, 2 more by merging.
    assert Counter(ops(modified))["Slice"] == 3
    assert f"something: constant-fold-zeros, auto-optimizer:{SLICES}" in capsys.readouterr().out
    sample = noise(2, 12, 8, 4)
    np.testing.assert_allclose(run(modified, sample)[0], run(original, sample)[0], atol=1e-6)


def test_auto_optimizer_alone_on_a_complete_tsm_of_mmaction2(interpreter: Path, tmp_path: Path) -> None:
    original = skeleton(TSM, shrink=8)
    rules = f"auto-optimizer={SLICES},KnowledgeTypeCast,KnowledgeMergeCasts"
    modified = optimized(tmp_path, original, "--passes", "none", "--with", rules)
    counts = Counter(ops(modified))
    assert counts["Constant"] == 0
    # Each half is sliced twice, by the difference and by the shift, so no Slice has a single consumer.
    assert counts["Slice"] == Counter(ops(original))["Slice"]
    sample = noise(1, 48, 3, 32, 32)
    np.testing.assert_allclose(run(modified, sample)[0], run(original, sample)[0], atol=1e-5)


def test_auto_optimizer_after_our_passes_on_a_complete_tsm_of_mmaction2(
    interpreter: Path, tmp_path: Path
) -> None:
    original = skeleton(TSM, shrink=8)
    words = ["--passes", "fold-constants,constant-fold-zeros", "--average_clips", "keep"]
    modified = optimized(tmp_path, original, *words, "--with", f"auto-optimizer={SLICES}")
    assert Counter(ops(original))["Slice"] == 112
    assert Counter(ops(modified))["Slice"] == 48
    sample = noise(1, 48, 3, 32, 32)
    np.testing.assert_allclose(run(modified, sample)[0], run(original, sample)[0], atol=1e-5)


def test_a_symbolic_batch_stays_symbolic(interpreter: Path, tmp_path: Path) -> None:
    original = shift_graph(batch="N", views=3, segments=4, channels=8, classes=5)
    modified = optimized(tmp_path, original, "--passes", "none", "--with", "auto-optimizer=KnowledgeTypeCast")
    for batch in (1, 3):
        sample = noise(batch, 12, 8, 4)
        np.testing.assert_allclose(run(modified, sample)[0], run(original, sample)[0], atol=1e-6)


def test_two_runs_give_equal_bytes(interpreter: Path, tmp_path: Path) -> None:
    original = shift_graph(batch=2, views=3, segments=4, channels=8, classes=5)
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        optimized(tmp_path / name, original, "--passes", "none", "--with", "auto-optimizer")
        contents.append((tmp_path / name / "out.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_a_rule_that_changes_the_outputs_is_detected(
    interpreter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
    blend (float[1,3,4,4] x) => (float[1,3,7,7] y) {
      y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, roi, scales)
    }"""
    scales = np.array([1, 1, 1.75, 1.75], dtype=np.float32)
    ir.save(graph(text, roi=np.zeros(0, dtype=np.float32), scales=scales), tmp_path / "in.onnx")
    words = ["-m1", str(tmp_path / "in.onnx"), "-m2", str(tmp_path / "out.onnx"), "--passes", "none"]
    assert main([*words, "--with", "auto-optimizer=KnowledgeResizeModeToNearest"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
    assert not (tmp_path / "out.onnx").exists()
    assert main([*words, "--with", "auto-optimizer"]) == 0
    (resize,) = load_model(tmp_path / "out.onnx").graph
    assert resize.attributes["mode"].as_string() == "linear"


def test_a_graph_that_auto_optimizer_cannot_parse(interpreter: Path, tmp_path: Path) -> None:
    # Its parser assumes that the first attribute of a Constant is a tensor.
    text = """
    flat (float[2,4,3] x) => (float[2,12] y) {
      shape = Constant<value_ints = [2, 12]>()
      y = Reshape(x, shape)
    }"""
    ir.save(graph(text, opset=13), tmp_path / "in.onnx")
    words = ["-m1", str(tmp_path / "in.onnx"), "-m2", str(tmp_path / "out.onnx"), "--passes", "none"]
    with pytest.raises(ExternalToolError, match=r"exit code 1.*Error"):
        main([*words, "--with", "auto-optimizer"])


KINDS = """
import json
from auto_optimizer import KnowledgeFactory
from auto_optimizer.common.click_utils import default_off_knowledges
from auto_optimizer.graph_optimizer.optimizer import ARGS_REQUIRED_KNOWLEDGES, NONEQUIVALENT_KNOWLEDGES
print(json.dumps([list(KnowledgeFactory.get_knowledge_pool()), default_off_knowledges,
                  NONEQUIVALENT_KNOWLEDGES, ARGS_REQUIRED_KNOWLEDGES]))
"""


def test_names_and_kinds_of_the_rules_match_the_package(interpreter: Path) -> None:
    done = subprocess.run([interpreter, "-c", KINDS], capture_output=True, text=True, check=True)
    pool, off, not_equivalent, with_arguments = json.loads(done.stdout.splitlines()[-1])
    ours = {rule.name: rule.kind for rule in REWRITE_RULES}
    assert ours.keys() == {*pool, *with_arguments}
    assert len(ours) == 17
    assert {name for name, kind in ours.items() if kind == "default"} == {*pool} - {*off}
    assert {name for name, kind in ours.items() if kind == "not equivalent"} == {*not_equivalent} - {
        *with_arguments
    }
    listed = subprocess.run([interpreter, BRIDGE], capture_output=True, text=True, check=True).stdout.split()
    assert listed == pool


def test_the_bridge_is_python_3_8() -> None:
    ast.parse(BRIDGE.read_text(), feature_version=(3, 8))


def test_make_refuses_a_newer_python(interpreter: Path, tmp_path: Path) -> None:
    newer = tmp_path / "python"
    newer.write_text(
        f"#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.12.1 (stub)' && exit\n"
        f"exec {sys.executable} -c 'import sys; sys.version_info = (3, 12, 1); exec(sys.argv[1])' \"$2\"\n"
    )
    newer.chmod(0o755)
    done = make("--always-make", "auto-optimizer", f"PYTHON={newer}")
    assert done.returncode
    assert "3.12.1 (stub)" in done.stderr
    assert "Error 3" in done.stderr
    assert interpreter.exists()
