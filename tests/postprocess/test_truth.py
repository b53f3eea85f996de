"""Scoring without `--info_path`: the labels are those of the clip store that the inputs are from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, N, WriteInfo, WriteRun, modelzoo, one_a_file
from scored_stores import pack, pack_views, run_store

from postprocess.score import ScoreOptions, main, score
from vidom.errors import BadDataError, UsageError
from vidom.formats.mindspore_310 import input_name, write_label_ids


def rejected(result_path: Path) -> str:
    with pytest.raises(UsageError, match="--info_path") as caught:
        score(ScoreOptions(result_path=result_path, num_classes=CLASSES))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("per_file", "skip"), [(1, None), (3, None), (3, 5)])
def test_a_store_knows_its_labels(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    per_file: int,
    skip: int | None,
) -> None:
    store = pack(tmp_path / "store", truth, per_file=per_file, skip=skip)
    summary = write_run(run_store(probabilities, per_file, skip), inputs=str(store / "clips"))
    expected = score(ScoreOptions(result_path=summary, info_path=store / "sthv2.info"))
    packed = N if skip is None else N - 1
    assert (expected.metrics.n, expected.metrics.top1.correct) == (packed, 13 - (skip is not None))
    given = expected.metrics_path.read_bytes()
    expected.metrics_path.unlink()
    capsys.readouterr()
    for result_path in (summary, summary.with_name("out")):
        assert main(["--result_path", str(result_path)]) is None
        assert f"{packed} labels from {store}/manifest.json" in capsys.readouterr().err.splitlines()
        assert expected.metrics_path.read_bytes() == given


@pytest.mark.parametrize("average_clips", ["prob", "score"])
def test_the_labels_of_a_store_of_views(
    truth: dict[int, int], write_run: WriteRun, tmp_path: Path, average_clips: str
) -> None:
    store = pack_views(tmp_path / "store", truth, views=2, average_clips=average_clips)
    right = {index: np.eye(CLASSES, dtype=np.float32)[[label]] for index, label in truth.items()}
    rows = {f"{index:06d}v{view:02d}": row for index, row in right.items() for view in range(2)}
    if average_clips == "score":
        rows = {stem: 9 * row for stem, row in rows.items()}
    summary = write_run(rows, inputs=str(store / "clips"))
    assert score(ScoreOptions(result_path=summary)).metrics.top1.correct == N


def test_a_given_list_has_priority(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities), inputs=str(store / "clips"))
    info = write_info(truth)
    main(["--result_path", str(summary), "--info_path", str(info)])
    assert f"{N} labels from {info}" in capsys.readouterr().err.splitlines()
    swapped = write_info({**truth, 0: truth[1], 1: truth[0]})
    with pytest.raises(BadDataError, match="different label in the list than in the clip store"):
        score(ScoreOptions(result_path=summary, info_path=swapped))


def test_a_moved_result_folder_still_has_its_store(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities), inputs=str(store / "clips"))
    moved = summary.parent.rename(tmp_path / "moved")
    assert score(ScoreOptions(result_path=moved / "out")).metrics.top1.correct == 13


def test_a_moved_store_is_reported_with_the_places_that_were_searched(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities), inputs=str(store / "clips"))
    store.rename(tmp_path / "moved")
    message = rejected(summary)
    assert f"{store}/clips/manifest.json and {store}/manifest.json not found" in message
    assert "relative" not in message


def test_a_relative_store_is_found_only_from_where_the_inference_was_run(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities), inputs="./store/clips")
    monkeypatch.chdir(tmp_path)
    assert score(ScoreOptions(result_path=summary)).metrics.top1.correct == 13
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    message = rejected(summary)
    assert "store/clips/manifest.json and store/manifest.json not found" in message
    assert f"relative to {tmp_path / 'deeper'}" in message


def test_inputs_that_are_not_from_a_store(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    summary = write_run(modelzoo(probabilities, 4))
    assert "there is no clip store (bins/manifest.json not found)" in rejected(summary)
    summary.unlink()
    assert "no summary names their input files" in rejected(summary.with_name("out"))


def test_inputs_of_two_stores_have_no_common_labels(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    first, second = (pack(tmp_path / name, truth, per_file=1) for name in ("a", "b"))
    summary = write_run(one_a_file(probabilities), inputs=str(first / "clips"))
    document = json.loads(summary.read_text())
    for key in ("3", "4"):
        (infile,) = document["filesinfo"][key]["infiles"]
        document["filesinfo"][key]["infiles"] = [infile.replace(str(first), str(second))]
    summary.write_text(json.dumps(document))
    assert f"from 2 folders ({first}/clips, {second}/clips)" in rejected(summary)


def test_part_of_a_store_is_not_the_data_set(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities[:20]), inputs=str(store / "clips"))
    with pytest.raises(BadDataError, match=r"2 of the 22 samples .* no output: 20 \(video20\), 21"):
        score(ScoreOptions(result_path=summary))


def test_the_310_layout_needs_its_label_file(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flow = tmp_path / "preprocess_Result"
    (flow / "data").mkdir(parents=True)
    rows = {Path(input_name(index)).stem: probabilities[index : index + 1] for index in range(N)}
    summary = write_run(rows, outfmt="BIN", inputs=str(flow / "data"))
    assert "label_ids.npy" in rejected(summary)
    write_label_ids(flow / "label_ids.npy", [truth[index] for index in range(N)])
    log = summary.with_name("acc.log")
    words = [*("--info_path", str(flow / "label_ids.npy")), *("--num_classes", str(CLASSES))]
    line = "after allreduce eval: top1_correct=13, tot=22, acc=59.09%"
    # What postprocess.py left there: nothing, the same accuracy, another.
    for left, said in (
        ("", ""),
        ("success_num:  13.0\ntotal_num:  22.0\n", "13 of 22"),
        ("top1_correct=8, tot=22", "8 of 22"),
    ):
        log.write_text(left)
        capsys.readouterr()
        main(["--result_path", str(summary), *words])
        printed = capsys.readouterr()
        assert printed.out.splitlines()[-1] == line
        assert (f"had {said} samples right, now 13 of 22" in " ".join(printed.err.split())) == bool(said)
        assert log.read_text().splitlines() == [
            "success_num:  13.0",
            "total_num:  22.0",
            f"acc:  {13 / 22}",
            line,
        ]
    log.unlink()
    summary.unlink()
    main(["--result_path", str(summary.with_name("out")), *words])
    assert log.read_text().endswith(line + "\n")


def test_a_copied_list_does_not_hide_a_damaged_manifest(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    summary = write_run(one_a_file(probabilities), inputs=str(store / "clips"))
    info = shutil.copy(store / "sthv2.info", tmp_path / "copy.info")
    (store / "manifest.json").write_text('{"version": 1}')
    for info_path in (None, Path(info)):
        with pytest.raises(BadDataError, match="damaged"):
            score(ScoreOptions(result_path=summary, info_path=info_path))
