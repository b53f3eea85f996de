"""What comes of an auto-optimizer that fails, shown with a stand-in for it; nothing here comes from the real one."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest
from stub_auto_optimizer import StandIn
from surgery_graphs import shift_graph

from export.build_record import read_record
from export.modify_onnx import main
from export.surgery.model_file import load_model
from vidom.errors import ExternalToolError, UnavailableError, UsageError

SLICES = "KnowledgeMergeConsecutiveSlice"


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A stand-in that SURGEON_PYTHON names."""
    folder = tmp_path / "stand_in"
    folder.mkdir()
    monkeypatch.setenv("SURGEON_PYTHON", str(folder / "python"))
    return StandIn(folder)


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


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("raises", f"failed in {SLICES} with code 1"),
        ("killed", f"was ended in {SLICES} by signal 9"),
        ("silent", "no report"),
        ("babbles", "no report"),
        ("writes nothing", "cannot be used"),
        ("half", "cannot be used"),
        ("new opset", "opset from 11 to 12"),
        ("new ir", "ir_version from 6 to 9"),
        ("renames", "outputs from y"),
    ],
)
def test_a_failure_is_told_and_nothing_is_written(
    standin: StandIn,
    exported: Path,
    behaviour: str,
    words: str,
) -> None:
    standin.behaves(behaviour)
    with pytest.raises(ExternalToolError) as raised:
        main(command(exported, "--with", f"auto-optimizer={SLICES}"))
    text = str(raised.value)
    assert words in text
    assert "\n" not in text
    assert str(log_of(exported)) in text
    assert f"applying {SLICES}" in log_of(exported).read_text()
    assert not exported.with_name("new.onnx").exists()
    assert raised.value.exit_code == 5


def test_the_last_lines_are_repeated(standin: StandIn, exported: Path) -> None:
    standin.behaves("raises")
    with pytest.raises(ExternalToolError, match="KeyError: 'Slice_77'"):
        main(command(exported, "--with", "auto-optimizer"))
    assert "Traceback" in log_of(exported).read_text()


def test_the_time_limit_stops_it_and_what_it_started(
    standin: StandIn,
    exported: Path,
) -> None:
    standin.behaves("hangs")
    with pytest.raises(ExternalToolError, match=f"had not ended in {SLICES} after"):
        main(command(exported, "--with", f"auto-optimizer={SLICES}", "--time_limit", "2"))
    assert standin.alive() == []


def test_an_interpreter_without_it(standin: StandIn, exported: Path) -> None:
    standin.behaves("lacks")
    with pytest.raises(UnavailableError, match=r"onnx\.mapping.*make surgeon") as raised:
        main(command(exported, "--with", "auto-optimizer"))
    assert raised.value.exit_code == 3


def test_no_interpreter(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURGEON_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match=r"SURGEON_PYTHON names.*make surgeon"):
        main(command(exported, "--with", "auto-optimizer"))
    monkeypatch.delenv("SURGEON_PYTHON")
    monkeypatch.setattr("export.auto_optimizer.external_optimizer._REPOSITORY", tmp_path)
    with pytest.raises(UnavailableError, match=r"\.venv-surgeon/bin/python.*make surgeon"):
        main(command(exported, "--with", "auto-optimizer"))


def test_another_meaning_is_found_out(
    standin: StandIn,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    standin.behaves("other meaning")
    assert main(command(exported, "--with", f"auto-optimizer={SLICES}")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
    assert not exported.with_name("new.onnx").exists()


def test_it_gets_the_knowledges_in_order_in_a_folder_that_goes_and_none_of_our_paths(
    standin: StandIn,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(exported.parent))
    standin.behaves("finds nothing")
    assert main(command(exported, "--with", f"auto-optimizer=KnowledgeTypeCast,{SLICES}")) == 0
    seen = standin.seen()
    assert seen["knowledges"] == [SLICES, "KnowledgeTypeCast"]
    assert Path(seen["bridge"]).is_file()
    assert not Path(seen["cwd"]).exists()
    assert "PYTHONPATH" not in seen["environ"]
    assert seen["environ"]["PYTHONHASHSEED"] == "0"


def test_what_fits_nowhere_leaves_the_graph(
    standin: StandIn,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    standin.behaves("finds nothing")
    assert main(command(exported, "--with", "auto-optimizer")) == 0
    told = capsys.readouterr()
    assert "passes that changed something: none" in told.out
    assert "No knowledge fits" in told.err
    assert ir.to_proto(load_model(exported.with_name("new.onnx"))) == ir.to_proto(load_model(exported))


def test_the_record_and_a_fresh_result(standin: StandIn, exported: Path) -> None:
    output = exported.with_name("new.onnx")
    standin.behaves("leaves rubbish")
    words = command(exported, "--with", f"auto_optimizer={SLICES}")
    assert main(words) == 0
    assert "unused" not in load_model(output).graph.initializers
    entry = read_record(output)
    assert entry["made_from"]["auto_optimizer"] == [SLICES]
    assert entry["surgery"]["changed_by"] == [f"auto-optimizer:{SLICES}"]
    assert entry["auto_optimizer"] == {"applied": [SLICES], "versions": {"ait-surgeon": "stand-in"}}
    standin.behaves("raises")
    assert main(words) == 0
    with pytest.raises(ExternalToolError):
        main(command(exported, "--with", "auto-optimizer=KnowledgeTypeCast"))


def test_it_operates_after_the_passes(standin: StandIn, exported: Path) -> None:
    standin.behaves("as told")
    output = exported.with_name("new.onnx")
    words = ["-m1", str(exported), "-m2", str(output), "--passes", "zero-blanks", "-bs", "2"]
    assert main([*words, f"--with=auto-optimizer={SLICES}"]) == 0
    assert read_record(output)["surgery"]["changed_by"] == ["zero-blanks", f"auto-optimizer:{SLICES}"]
    assert json.loads((output.parent / "build.json").read_text())["models"].keys() == {"new.onnx"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--with", "auto-optimizer=KnowledgeMergeSlice"], f"Did you mean {SLICES}"),
        (["--with", "auto-optimizer=KnowledgeBigKernel"], "attention block"),
        (["--with", "auto-optimizer=KnowledgeDynamicReshape"], "skl2onnx"),
        (["--with", "auto-optimizer", "-bs", "2"], "set-batch"),
        ([], "No pass was named"),
    ],
)
def test_orders_that_cannot_be_followed(exported: Path, words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        main(command(exported, *words))


@pytest.mark.parametrize("word", ["onnxslim", "auto-optimizer=", "auto-optimizer=,", ""])
def test_only_this_surgeon(exported: Path, word: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command(exported, "--with", word))
    assert ended.value.code == 2
