from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_runs import FILES, contents, killed_in_the_middle
from onnx_models import WEIGHTS, linear, rows_of, two_outputs, write_rows
from run_infer import run_infer

from infer.batches.journal import RunJournal
from infer.batches.performance import InferenceResult
from infer.engines.onnxruntime import OnnxRuntimeEngine
from vidom.errors import BadDataError, UsageError
from vidom.formats.engine_outputs import read_summary


def run(model: Path, folder: Path, output: Path, **options: object) -> InferenceResult:
    return run_infer(
        model=model, input=folder, output=output, output_dirname="run", say=lambda _: None, **options
    )


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path):
    model = two_outputs(tmp_path / "m.onnx", 2)
    folder = write_rows(tmp_path / "in", rows_of(FILES))
    killed_in_the_middle(model, folder, tmp_path / "killed")
    # What a kill may leave at the worst moment: half a journal line, a temporary file, an output not recorded.
    with (tmp_path / "killed" / "run.journal.jsonl").open("a") as stream:
        stream.write('{"number": 7')
    (tmp_path / "killed" / "run" / f"video_2_0.bin.{2**22 + 1}.part").write_bytes(b"half")
    (tmp_path / "killed" / "run" / f"video_{FILES - 1}_0.bin").write_bytes(b"stale")
    again = run(model, folder, tmp_path / "killed")
    whole = run(model, folder, tmp_path / "whole")
    assert 0 < again.resumed < FILES // 2 and whole.resumed == 0
    found = contents(tmp_path / "killed" / "run")
    assert found == contents(tmp_path / "whole" / "run") and len(found) == 2 * FILES
    assert len(again.compute_ms) == len(whole.compute_ms) == FILES // 2
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["run", "run_summary.json"]
    (entries, document), (wanted, _) = (
        read_summary(tmp_path / name / "run_summary.json") for name in ("killed", "whole")
    )
    assert [entry.infiles for entry in entries] == [entry.infiles for entry in wanted]
    assert document["vidom"]["resumed"] == again.resumed


def interrupted(after: int, model: Path, folder: Path, output: Path, **options: object) -> None:
    """A run in which Ctrl-C comes while batch number `after` is executed."""
    execute, calls = OnnxRuntimeEngine.execute, []

    def execute_or_stop(engine: OnnxRuntimeEngine, feeds: dict[str, Any]) -> list[Any]:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return execute(engine, feeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnnxRuntimeEngine, "execute", execute_or_stop)
        with pytest.raises(KeyboardInterrupt):
            run(model, folder, output, warmup_count=0, **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "m.onnx", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in", rows_of(5))


def test_only_what_is_missing_or_damaged_is_run_again(model: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    interrupted(3, model, folder, out)
    assert sorted(contents(out / "run")) == ["video_0_0.bin", "video_1_0.bin", "video_2_0.bin"]
    whole = contents(out / "run")["video_1_0.bin"]
    (out / "run" / "video_1_0.bin").write_bytes(bytes(len(whole)))
    result = run(model, folder, out)
    assert result.resumed == 2
    assert contents(out / "run")["video_1_0.bin"] == whole
    for number, row in enumerate(rows_of(5)):
        found = np.fromfile(out / "run" / f"video_{number}_0.bin", np.float32)
        np.testing.assert_allclose(found, row @ WEIGHTS, rtol=1e-5, atol=1e-6)
    _, document = read_summary(out / "run_summary.json")
    assert document["NPU_compute_time"]["count"] == 5 and document["vidom"]["resumed"] == 2


def test_a_finished_run_is_run_anew(model: Path, folder: Path, tmp_path: Path):
    assert run(model, folder, tmp_path / "out").resumed == 0
    assert run(model, folder, tmp_path / "out").resumed == 0


def test_a_run_killed_between_summary_and_journal_needs_nothing_again(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(RunJournal, "finish", lambda _journal: None)
        run(model, folder, tmp_path / "out")
    assert run(model, folder, tmp_path / "out").resumed == 5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run", "run_summary.json"]


def changed_input(model: Path, folder: Path) -> dict[str, object]:
    rows = rows_of(5)[::-1]
    for number, row in enumerate(rows):
        (folder / f"video_{number}.bin").write_bytes(row.tobytes())
    return {}


def fewer_inputs(model: Path, folder: Path) -> dict[str, object]:
    (folder / "video_1.bin").unlink()
    return {}


def another_model(model: Path, folder: Path) -> dict[str, object]:
    linear(model, 2)
    return {}


def another_format(model: Path, folder: Path) -> dict[str, object]:
    return {"outfmt": "TXT"}


def another_loop(model: Path, folder: Path) -> dict[str, object]:
    return {"loop": 2}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", [changed_input, fewer_inputs, another_model, another_format, another_loop])
def test_a_different_run_starts_anew_and_leaves_nothing_of_the_earlier_one(
    change: Callable[[Path, Path], dict[str, object]],
    finished: bool,
    model: Path,
    folder: Path,
    tmp_path: Path,
):
    out = tmp_path / "out"
    if finished:
        run(model, folder, out)
    else:
        interrupted(3, model, folder, out)
    options = change(model, folder)
    assert run(model, folder, out, **options).resumed == 0
    run(model, folder, tmp_path / "fresh", **options)
    assert contents(out / "run") == contents(tmp_path / "fresh" / "run")


def test_a_failed_run_leaves_no_summary_of_an_earlier_one(model: Path, folder: Path, tmp_path: Path):
    run(model, folder, tmp_path / "out")
    interrupted(1, model, folder, tmp_path / "out")
    with pytest.raises(BadDataError, match=r"run_summary\.json does not exist"):
        read_summary(tmp_path / "out" / "run_summary.json")


def test_what_others_put_into_our_folder_stays(model: Path, folder: Path, tmp_path: Path):
    run(model, folder, tmp_path / "out")
    (tmp_path / "out" / "run" / "notes.txt").write_text("mine")
    run(model, folder, tmp_path / "out", outfmt="TXT")
    assert (tmp_path / "out" / "run" / "notes.txt").read_text() == "mine"


def test_a_folder_that_vidom_did_not_make_is_not_touched(model: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "run").mkdir(parents=True)
    run(model, folder, out)  # an empty folder is no obstacle
    strangers = tmp_path / "strangers"
    (strangers / "run").mkdir(parents=True)
    (strangers / "run" / "video_0_0.bin").write_bytes(b"another program's")
    (strangers / "run_summary.json").write_text(json.dumps({"filesinfo": {}, "pid": 1}))
    before = contents(strangers / "run")
    with pytest.raises(UsageError, match="choose a different --output_dirname"):
        run(model, folder, strangers)
    (strangers / "run_summary.json").unlink()
    with pytest.raises(UsageError, match="choose a different --output_dirname"):
        run(model, folder, strangers)
    assert contents(strangers / "run") == before
    assert [path.name for path in strangers.iterdir()] == ["run"]


@pytest.mark.parametrize("summary", ["", "[1]", '{"filesinfo": 1}', '{"pid": %s}' % ("9" * 5000)])
def test_a_summary_that_is_none_is_a_different_program_s(
    summary: str, model: Path, folder: Path, tmp_path: Path
):
    (tmp_path / "run_summary.json").write_text(summary)
    with pytest.raises(UsageError, match="choose a different --output_dirname"):
        run(model, folder, tmp_path)
    assert (tmp_path / "run_summary.json").read_text() == summary


@pytest.mark.parametrize("line", ["7", '{"number": 3}', '{"number": 3, "seconds": 1e999}'])
def test_a_damaged_line_of_a_journal_is_run_again(line: str, model: Path, folder: Path, tmp_path: Path):
    interrupted(3, model, folder, tmp_path / "out")
    with (tmp_path / "out" / "run.journal.jsonl").open("a") as journal:
        journal.write(f"{line}\n")
    assert run(model, folder, tmp_path / "out").resumed == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run", "run_summary.json"]


def test_a_killed_run_resumed_with_different_weights_has_the_outputs_of_the_new_model_only(
    model: Path, folder: Path, tmp_path: Path
):
    """The two models differ in nothing but their weights: name, size, shapes and batch are the same."""
    out = tmp_path / "out"
    interrupted(3, model, folder, out)
    before = model.read_bytes()
    weight = WEIGHTS.ravel()[0].tobytes()
    assert before.count(weight) == 1
    model.write_bytes(before.replace(weight, np.float32(2 * WEIGHTS.ravel()[0]).tobytes()))
    result = run(model, folder, out)
    assert result.resumed == 0
    changed = WEIGHTS.copy()
    changed.ravel()[0] *= 2
    for number, row in enumerate(rows_of(5)):
        found = np.fromfile(out / "run" / f"video_{number}_0.bin", np.float32)
        np.testing.assert_allclose(found, row @ changed, rtol=1e-5, atol=1e-6)
