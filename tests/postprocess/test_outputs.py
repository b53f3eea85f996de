from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_runs import N, WriteInfo, WriteRun, modelzoo, one_a_file, refusal

from postprocess.score import ScoreOptions, score


def test_a_result_folder_is_enough(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(modelzoo(probabilities, 4), outfmt="TXT")
    expected = score(ScoreOptions(result_path=summary, info_path=info)).metrics_path.read_bytes()
    folder = summary.with_name("out")
    # ModelZoo's guides have the summary moved about; inside the folder it is no result.
    summary.rename(folder / "sumary.json")
    (folder / "out_summary.json").write_text("{}")
    (folder / "0_1.txt").write_text("a second output\n")
    scores = score(ScoreOptions(result_path=folder, info_path=info))
    assert scores.metrics_path == summary.with_name("out_metrics.json")
    assert scores.metrics_path.read_bytes() == expected


def test_a_folders_sibling_summary_is_used_against_stale_files(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    np.save(summary.with_name("out") / "000099_0.npy", probabilities[:1])
    info = write_info(truth)
    assert score(ScoreOptions(result_path=summary.with_name("out"), info_path=info)).metrics.n == N
    summary.unlink()
    assert "no label in the list: samples 99" in refusal(summary.with_name("out"), info)


def test_empty_and_ambiguous_folders(tmp_path: Path, write_run: WriteRun, write_info: WriteInfo) -> None:
    info = write_info({0: 0})
    (tmp_path / "empty").mkdir()
    assert "holds no outputs" in refusal(tmp_path / "empty", info)
    assert "does not exist" in refusal(tmp_path / "nowhere", info)
    summary = write_run({"0": np.eye(2)[:1]})
    summary.unlink()
    (summary.with_name("out") / "0_0.txt").write_text("1 0 \n")
    assert "two formats" in refusal(summary.with_name("out"), info)


def test_a_summary_cannot_point_out_of_its_folder(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    summary = write_run(one_a_file(probabilities))
    elsewhere = tmp_path / "elsewhere"
    summary.with_name("out").rename(elsewhere)
    text = summary.read_text()
    for given in (str(elsewhere), "../elsewhere", "./inference_result/.."):
        summary.write_text(text.replace("./inference_result/out", given))
        assert "22 of the 22 output files" in refusal(summary, write_info(truth))


def test_a_summary_that_was_moved_is_read_from_where_the_run_was_started(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = write_run(one_a_file(probabilities))
    (tmp_path / "copy").mkdir()
    moved = summary.rename(tmp_path / "copy" / summary.name)
    moved.write_text(moved.read_text().replace("./inference_result", "./results"))
    monkeypatch.chdir(tmp_path)
    assert score(ScoreOptions(result_path=moved, info_path=write_info(truth))).metrics.top1.correct == 13
