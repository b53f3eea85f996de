"""Failures of auto-optimizer, shown with a stub of it; the real one is not used here."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest
from stub_auto_optimizer import StubAutoOptimizer
from surgery_graphs import shift_graph

from export.build_record import read_record
from export.modify_onnx import main
from export.surgery.model_file import load_model
from vidom.errors import ExternalToolError, UnavailableError, UsageError

SLICES = "KnowledgeMergeConsecutiveSlice"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubAutoOptimizer:
    """A stub to which AUTO_OPTIMIZER_PYTHON points."""
    folder = tmp_path / "stub"
    folder.mkdir()
    monkeypatch.setenv("SURGEON_PYTHON", str(folder / "python"))
    return StubAutoOptimizer(folder)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "tsm.onnx"
    ir.save(shift_graph(batch=2, views=3, segments=4, channels=8, classes=5), path)
    return path


def command(exported: Path, *words: str) -> list[str]:
    output = exported.with_name("new.onnx")
    return ["-m1", str(exported), "-m2", str(output), "--passes", "none", *words]


def log_of(exported: Path) -> Path:
    return exported.with_name("new.auto-optimizer.log")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("raises", f"failed in {SLICES} with exit code 1"),
        ("killed", f"was killed in {SLICES} by signal 9"),
        ("no report", "no valid report"),
        ("wrong report", "no valid report"),
        ("writes nothing", "cannot be used"),
        ("half", "cannot be used"),
        ("new opset", "opset from 11 to 12"),
        ("new ir", "ir_version from 6 to 9"),
        ("renames", "outputs from y"),
    ],
)
def test_a_failure_is_reported_and_nothing_is_written(
    stub: StubAutoOptimizer,
    exported: Path,
    behaviour: str,
    words: str,
) -> None:
    stub.behaves(behaviour)
    with pytest.raises(ExternalToolError) as raised:
        main(command(exported, "--with", f"auto-optimizer={SLICES}"))
    text = str(raised.value)
    assert words in text
    assert "\n" not in text
    assert str(log_of(exported)) in text
    assert f"applying {SLICES}" in log_of(exported).read_text()
    assert not exported.with_name("new.onnx").exists()
    assert raised.value.exit_code == 5


def test_the_last_lines_are_repeated(stub: StubAutoOptimizer, exported: Path) -> None:
    stub.behaves("raises")
    with pytest.raises(ExternalToolError, match="KeyError: 'Slice_77'"):
        main(command(exported, "--with", "auto-optimizer"))
    assert "Traceback" in log_of(exported).read_text()


@pytest.mark.slow
def test_the_time_limit_stops_it_and_what_it_started(
    stub: StubAutoOptimizer,
    exported: Path,
) -> None:
    stub.behaves("hangs")
    with pytest.raises(ExternalToolError, match=f"reached the --time_limit in {SLICES} after"):
        main(command(exported, "--with", f"auto-optimizer={SLICES}", "--time_limit", "2"))
    assert stub.alive() == []


def test_an_interpreter_without_it(stub: StubAutoOptimizer, exported: Path) -> None:
    stub.behaves("no auto-optimizer")
    with pytest.raises(UnavailableError, match=r"onnx\.mapping.*make auto-optimizer") as raised:
        main(command(exported, "--with", "auto-optimizer"))
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("variable", ["AUTO_OPTIMIZER_PYTHON", "SURGEON_PYTHON"])
def test_no_interpreter(
    variable: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match=rf"set by {variable}.*make auto-optimizer"):
        main(command(exported, "--with", "auto-optimizer"))
    monkeypatch.delenv(variable)
    monkeypatch.setattr("export.auto_optimizer.external_optimizer._REPOSITORY", tmp_path)
    with pytest.raises(UnavailableError, match=r"\.venv-auto-optimizer/bin/python.*make auto-optimizer"):
        main(command(exported, "--with", "auto-optimizer"))


def test_changed_outputs_are_detected(
    stub: StubAutoOptimizer,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub.behaves("other outputs")
    assert main(command(exported, "--with", f"auto-optimizer={SLICES}")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
    assert not exported.with_name("new.onnx").exists()


def test_it_gets_the_rules_in_order_in_a_temporary_folder_and_none_of_our_paths(
    stub: StubAutoOptimizer,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(exported.parent))
    stub.behaves("matches nothing")
    assert main(command(exported, "--with", f"auto-optimizer=KnowledgeTypeCast,{SLICES}")) == 0
    seen = stub.seen()
    assert seen["rules"] == [SLICES, "KnowledgeTypeCast"]
    assert Path(seen["bridge"]).is_file()
    assert not Path(seen["cwd"]).exists()
    assert "PYTHONPATH" not in seen["environ"]
    assert seen["environ"]["PYTHONHASHSEED"] == "0"


def test_rules_that_match_nothing_leave_the_graph_unchanged(
    stub: StubAutoOptimizer,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub.behaves("matches nothing")
    assert main(command(exported, "--with", "auto-optimizer")) == 0
    printed = capsys.readouterr()
    assert "passes that changed something: none" in printed.out
    assert "No rewrite rule matched" in printed.err
    assert ir.to_proto(load_model(exported.with_name("new.onnx"))) == ir.to_proto(load_model(exported))


def test_the_record_and_a_fresh_result(stub: StubAutoOptimizer, exported: Path) -> None:
    output = exported.with_name("new.onnx")
    stub.behaves("leaves an unused weight")
    words = command(exported, "--with", f"auto_optimizer={SLICES}")
    assert main(words) == 0
    assert "unused" not in load_model(output).graph.initializers
    entry = read_record(output)
    assert entry["made_from"]["auto_optimizer"] == [SLICES]
    assert entry["surgery"]["changed_by"] == [f"auto-optimizer:{SLICES}"]
    assert entry["auto_optimizer"] == {"applied": [SLICES], "versions": {"ait-surgeon": "stub"}}
    stub.behaves("raises")
    assert main(words) == 0
    with pytest.raises(ExternalToolError):
        main(command(exported, "--with", "auto-optimizer=KnowledgeTypeCast"))


def test_it_runs_after_the_passes(stub: StubAutoOptimizer, exported: Path) -> None:
    stub.behaves("copies")
    output = exported.with_name("new.onnx")
    words = ["-m1", str(exported), "-m2", str(output), "--passes", "constant-fold-zeros", "-bs", "2"]
    assert main([*words, f"--with=auto-optimizer={SLICES}"]) == 0
    assert read_record(output)["surgery"]["changed_by"] == ["constant-fold-zeros", f"auto-optimizer:{SLICES}"]
    assert json.loads((output.parent / "build.json").read_text())["models"].keys() == {"new.onnx"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--with", "auto-optimizer=KnowledgeMergeSlice"], f"Did you mean {SLICES}"),
        (["--with", "auto-optimizer=KnowledgeBigKernel"], "attention block"),
        (["--with", "auto-optimizer=KnowledgeDynamicReshape"], "skl2onnx"),
        (["--with", "auto-optimizer", "-bs", "2"], "set-batch"),
        ([], "No pass was given"),
    ],
)
def test_invalid_options_are_rejected(exported: Path, words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        main(command(exported, *words))


@pytest.mark.parametrize("word", ["onnxslim", "auto-optimizer=", "auto-optimizer=,", ""])
def test_no_other_optimizer_is_accepted(exported: Path, word: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command(exported, "--with", word))
    assert ended.value.code == 2
