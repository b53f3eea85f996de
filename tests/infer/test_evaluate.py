from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import (
    WEIGHTS,
    evaluate_options,
    metrics_through_files,
    names,
    run_evaluation,
    scores_by_hand,
    sum_model,
    write_list,
    write_recipe,
)

from infer.evaluate import main
from infer.evaluation.record import read_header, read_rows
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe, load_recipe

FILES = ["evaluation.json", "metrics.json", "record.jsonl"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(str(write_recipe(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_metrics_are_those_of_packing_inference_and_scoring(dtype: str, recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 10)
    metrics = {}
    for batch in (1, 4):
        model = sum_model(tmp_path / f"{dtype}{batch}.onnx", batch, dtype=dtype)
        result = run_evaluation(tmp_path / str(batch), model, annotations, workers=2)
        metrics[batch] = result.metrics_path.read_bytes()
        assert (result.run.computed, result.run.resumed, result.skipped) == (10, 0, ())
        rows = {row.index: row.scores for row in read_rows(tmp_path / str(batch) / "record.jsonl")}
        np.testing.assert_array_equal(
            [rows[index] for index in range(10)], scores_by_hand(annotations, recipe)
        )
        assert names(tmp_path / str(batch)) == FILES
    expected = metrics_through_files(tmp_path / "files", recipe, model, annotations, dtype=dtype)
    assert metrics[1] == metrics[4] == expected


def test_a_symbolic_batch_axis_takes_the_given_size(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 5)
    model = sum_model(tmp_path / "m.onnx", "n")
    result = run_evaluation(tmp_path / "out", model, annotations, batch_size=3)
    assert result.metrics.n == 5 and read_header(tmp_path / "out" / "record.jsonl")["batch_size"] == 3
    with pytest.raises(UsageError, match="symbolic"):
        run_evaluation(tmp_path / "other", model, annotations)


def command_line(folder: Path, model: Path, annotations: Path, *words: str) -> list[str]:
    options = {
        "recipe": folder.parent / "sums.yaml",
        "data_root": annotations.parent / "data",
        "ann_file": annotations,
    }
    options |= {"model": model, "output_dir": folder, "engine": "onnxruntime", "workers": 2}
    return [*(word for name, value in options.items() for word in (f"--{name}", str(value))), *words]


def killed_in_the_middle(folder: Path, words: list[str]) -> None:
    """Start the command, kill it once some rows are recorded, and check that its workers end too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infer.evaluate", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    record, deadline = folder / "record.jsonl", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if record.exists() and record.read_bytes().count(b"\n") > 20:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("the workers outlive the command")


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 600)
    samples = 600
    model = sum_model(tmp_path / "m.onnx", 4)
    killed_in_the_middle(tmp_path / "killed", command_line(tmp_path / "killed", model, annotations))
    assert names(tmp_path / "killed") == [".lock", "record.jsonl"]
    with (tmp_path / "killed" / "record.jsonl").open("a") as stream:
        stream.write('0badc0de {"index": 1')
    (tmp_path / "killed" / f"record.jsonl.{2**22 + 1}.part").write_bytes(b"half")
    again = run_evaluation(tmp_path / "killed", model, annotations)
    whole = run_evaluation(tmp_path / "whole", model, annotations, workers=2)
    assert 0 < again.run.resumed < samples == again.run.resumed + again.run.computed
    assert again.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    assert names(tmp_path / "killed") == names(tmp_path / "whole") == FILES
    once_more = run_evaluation(tmp_path / "whole", model, annotations)
    assert (once_more.run.resumed, once_more.run.computed) == (samples, 0)
    assert once_more.metrics_path.read_bytes() == again.metrics_path.read_bytes()


def test_samples_of_damaged_lines_are_computed_again(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 6)
    model = sum_model(tmp_path / "m.onnx", 1)
    expected = run_evaluation(tmp_path / "out", model, annotations).metrics_path.read_bytes()
    record = tmp_path / "out" / "record.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"label": 1', b'"label": 3')
    record.write_bytes(b"".join([*lines, lines[4]]))
    again = run_evaluation(tmp_path / "out", model, annotations)
    assert (again.run.resumed, again.run.computed) == (5, 1)
    assert again.metrics_path.read_bytes() == expected
    assert len(record.read_bytes().splitlines()) == 7


@pytest.mark.slow
def test_an_unreadable_video_fails_and_keeps_what_was_computed(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 8, missing=(5,))
    model = sum_model(tmp_path / "m.onnx", 2)
    with pytest.raises(BadDataError, match=r"Sample 5 of the list \(s005\) .* --on_bad skip"):
        run_evaluation(tmp_path / "out", model, annotations)
    assert sorted(row.index for row in read_rows(tmp_path / "out" / "record.jsonl")) == [0, 1, 2, 3]
    assert names(tmp_path / "out") == ["record.jsonl"]
    result = run_evaluation(tmp_path / "out", model, annotations, on_bad="skip")
    assert (result.run.resumed, result.run.computed, result.metrics.n) == (4, 3, 7)
    assert [(skip.index, skip.id) for skip in result.skipped] == [(5, "s005")]
    assert result.metrics_path.read_bytes() == metrics_through_files(
        tmp_path / "files", recipe, model, annotations
    )
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["evaluated"] == 7 and facts["skipped"][0]["index"] == 5


def test_a_list_without_a_readable_video(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 3, missing=(0, 1, 2))
    model = sum_model(tmp_path / "m.onnx", 2)
    with pytest.raises(BadDataError, match="None of the 3 videos could be read"):
        run_evaluation(tmp_path / "out", model, annotations, on_bad="skip")


def test_the_folder_of_a_different_evaluation_is_not_changed(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 6)
    model, other = sum_model(tmp_path / "m.onnx", 1), sum_model(tmp_path / "o.onnx", 1, weights=-WEIGHTS)
    run_evaluation(tmp_path / "out", model, annotations)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UsageError, match=r"a different evaluation \(model_sha256"):
        run_evaluation(tmp_path / "out", other, annotations)
    with pytest.raises(
        UsageError, match=r"list_sha256 .*; samples 6 there, 3 requested; limit None there, 3"
    ):
        run_evaluation(tmp_path / "out", model, annotations, limit=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "record.jsonl").write_text("my own notes\n")
    with pytest.raises(UsageError, match="not a record written by vidom"):
        run_evaluation(tmp_path / "mine", model, annotations)


def test_models_that_do_not_fit_are_refused_before_anything_is_decoded(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 3)
    wide = sum_model(tmp_path / "wide.onnx", 1, weights=np.ones((len(WEIGHTS), 9), np.float32))
    with pytest.raises(UsageError, match="requires 7 scores for each of 1 samples"):
        run_evaluation(tmp_path / "a", wide, annotations)
    model = sum_model(tmp_path / "m.onnx", 1)
    options = command_line(tmp_path / "b", model, annotations)
    with pytest.raises(UsageError, match=r"but a sample of the recipe sums has the shape \(4, 3, 8, 8\)"):
        main([*options, "--set", "views.num_segments=4"])
    with pytest.raises(UsageError, match="takes single views .* has 2. Export the model without --per_view"):
        main([*options, "--set", "views.twice_sample=true"])
    with pytest.raises(UsageError, match="--window and --dtype .* not for --engine onnxruntime"):
        main([*options, "--window", "2GB", "--dtype", "uint8"])
    with pytest.raises(UsageError, match="--time_limit belongs to ascend"):
        main([*options, "--time_limit", "5"])
    assert names(tmp_path) == ["data", "labels.txt", "list.txt", "m.onnx", "sums.yaml", "wide.onnx"]


@pytest.mark.slow
def test_the_command_prints_what_score_prints(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    annotations = write_list(tmp_path / "list.txt", 8)
    model = sum_model(tmp_path / "m.onnx", 4)
    main(command_line(tmp_path / "out", model, annotations))
    right = scores_by_hand(annotations, recipe).argmax(axis=1) == np.arange(8) % 7
    captured = capsys.readouterr()
    assert captured.out.startswith(f"\ntop1_acc\t{right.mean():.4f}\n\ntop5_acc\t")
    assert "all 8 samples of the list" in captured.err and "the engine was busy for" in captured.err


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("batch_size", 0), ("limit", 0)])
def test_counts_below_one_are_refused(name: str, value: int, recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 3)
    with pytest.raises(UsageError, match=f"--{name} must be at least 1"):
        run_evaluation(tmp_path / "out", tmp_path / "m.onnx", annotations, **{name: value})
    with pytest.raises(UsageError, match="--threads must be at least 1"):
        evaluate_options(tmp_path / "out", tmp_path / "m.onnx", annotations, threads=0)
