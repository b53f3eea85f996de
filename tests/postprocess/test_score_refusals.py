from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, N, WriteInfo, WriteRun, modelzoo, one_a_file, refusal


def test_missing_outputs_are_named(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(one_a_file(probabilities))
    for index in range(3, 17):
        (summary.with_name("out") / f"{index:06d}_0.npy").unlink()
    message = refusal(summary, info)
    assert "14 of the 22" in message
    assert "000003_0.npy" in message
    assert "and 4 more" in message
    limited = write_run(one_a_file(probabilities[:4]), name="limited")
    assert "18 of the 22 samples in the list have no output: 4, 5, 6" in refusal(limited, info)


def test_a_summary_without_outputs_or_files(
    write_run: WriteRun, write_info: WriteInfo, tmp_path: Path
) -> None:
    info = write_info({0: 0})
    summary = write_run({"0": np.eye(2)[:1]})
    document = json.loads(summary.read_text())
    document["filesinfo"]["0"]["outfiles"] = []
    summary.write_text(json.dumps(document))
    assert "names no output for 1 of its 1 entries" in refusal(summary, info)
    summary.write_text('{"filesinfo": {}}')
    assert "pipeline" in refusal(summary, info)
    summary.write_text(json.dumps(document)[:40])
    assert "cut short" in refusal(summary, info)


def test_duplicate_outputs_are_named(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(one_a_file(probabilities))
    document = json.loads(summary.read_text())
    document["filesinfo"]["22"] = document["filesinfo"]["4"]
    summary.write_text(json.dumps(document))
    assert "000004_0.npy" in refusal(summary, info)
    twice = {**one_a_file(probabilities), "4": probabilities[4:5]}
    assert "1 samples have more than one output: 4." in refusal(write_run(twice, name="twice"), info)
    batches = {**modelzoo(probabilities, 4), "02": probabilities[:4]}
    assert "4 samples have more than one output: 8, 9" in refusal(write_run(batches, name="batches"), info)


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_named(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    value: float,
    outfmt: str,
) -> None:
    damaged = probabilities.copy()
    damaged[[6, 6, 19], [0, 2, 1]] = value
    summary = write_run(one_a_file(damaged), outfmt=outfmt)
    assert "2 samples have a score that is NaN or infinite: 6, 19." in refusal(
        summary, write_info(truth), num_classes=CLASSES
    )


def test_files_of_a_different_shape_are_named(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    good = one_a_file(probabilities)
    narrow = {**good, "000003": probabilities[:1, :-1], "000011": probabilities[:2]}
    message = refusal(write_run(narrow), info)
    assert "000003_0.npy (6 columns instead of 7), 000011_0.npy (2 rows instead of 1)" in message
    words = {**good, "000003": np.full((1, CLASSES), "a")}
    assert "instead of numbers" in refusal(write_run(words, name="words"), info)
    all_wrong = write_run(good, name="all")
    assert "22 of the 22" in refusal(all_wrong, info, num_classes=CLASSES + 1)
    cut = write_run(good, name="cut", outfmt="BIN")
    file = cut.with_name("cut") / "000020_0.bin"
    file.write_bytes(file.read_bytes()[:-4])
    assert "000020_0.bin" in refusal(cut, info, num_classes=CLASSES)


def test_single_views_are_not_scores(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    views = {str(index): np.repeat(probabilities[index : index + 1], 6, axis=0) for index in range(N)}
    assert "--average_clips" in refusal(write_run(views), info)
    # As many files as samples, and not more than the samples fill: each is the views of one sample.
    one = {"0": np.repeat(probabilities[:1], 6, axis=0)}
    assert "Each of the 1 output files holds 6 rows" in refusal(
        write_run(one, name="one"), write_info({0: 0})
    )
    info = write_info(truth)
    # Four samples of six views in each file: 24 rows, of which a list of 22 needs one file.
    batches = {str(k): np.repeat(rows, 6, axis=0) for k, rows in modelzoo(probabilities, 4).items()}
    assert "Each of the 6 output files holds 24 rows" in refusal(write_run(batches, name="batches"), info)


def test_labels_must_fit_the_outputs(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    shorter = write_info({index: label for index, label in truth.items() if index not in (3, 21)})
    assert "2 outputs have no label in the list: samples 3, 21" in refusal(summary, shorter)
    beyond = write_info({**truth, 8: CLASSES, 9: 10**9 - 1})
    assert "2 samples" in refusal(summary, beyond)
    assert "8, 9" in refusal(summary, beyond)
    far = write_info({**truth, 10**9 - 1: 0})
    assert f"no output: {10**9 - 1}" in refusal(summary, far)
    whole_batch = write_run(modelzoo(probabilities, 4), name="batch")
    few = write_info({index: truth[index] for index in range(4)})
    assert "take 1" in refusal(whole_batch, few)


def test_names_without_a_sample_number(
    probabilities: np.ndarray, write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info({0: 0, 1: 1})
    row = probabilities[:1]
    assert "pure_infer_data" in refusal(write_run({"pure_infer_data": row}, name="pure"), info)
    assert "b_1" in refusal(write_run({"a_0": row, "b_1": row, "a_2": row}, name="mixed"), info)
    assert "padding_infer_fake_file" in refusal(
        write_run({"0": row, "1": row, "padding_infer_fake_file": row}, name="padded"), info
    )


def test_hostile_and_truncated_files_are_bad_data(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(one_a_file(probabilities))
    file = summary.with_name("out") / "000009_0.npy"
    complete = file.read_bytes()
    # The header's padding has room for a shape of 6 million gigabytes.
    huge = complete.replace(b"(1, 7), }" + b" " * 15, b"(900000000000000, 7), }" + b" ")
    assert len(huge) == len(complete)
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}]), allow_pickle=True)
    for content in (huge, pickled.getvalue(), complete[:60], b"", b"PK\x03\x04" + complete, b"\x80\x04."):
        file.write_bytes(content)
        assert "000009_0.npy" in refusal(summary, info)
    text = write_run(one_a_file(probabilities), name="text", outfmt="TXT")
    for line in ("", "0.5 0.5\n0.5\n", "0.1 zero\n", "\u00bd\n"):
        (text.with_name("text") / "000009_0.txt").write_text(line, encoding="utf-8")
        assert "000009_0.txt" in refusal(text, info)


def test_damaged_manifests_and_lists_are_bad_data(
    write_run: WriteRun, write_info: WriteInfo, tmp_path: Path
) -> None:
    info = write_info({0: 0})
    summary = write_run({"0": np.eye(2)[:1]})
    (tmp_path / "manifest.json").write_text('{"version": 1}')
    assert "damaged" in refusal(summary, info)
    (tmp_path / "manifest.json").unlink()
    for line in ("0", "0 -1", "a 0", "0 0\n0 1"):
        info.write_text(line + "\n")
        assert str(info) in refusal(summary, info)
    assert "does not exist" in refusal(summary, tmp_path / "nowhere.info")
