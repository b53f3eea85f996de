from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, N, WriteInfo, WriteRun, modelzoo, one_a_file

from postprocess.score import ScoreOptions, main, score


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
@pytest.mark.parametrize("batch", [1, 2])
def test_real_ais_bench_results(
    fixtures: Path,
    tmp_path: Path,
    write_info: WriteInfo,
    capsys: pytest.CaptureFixture[str],
    batch: int,
    outfmt: str,
) -> None:
    name = f"bs{batch}_{outfmt}"
    real = fixtures / "ais_bench" / "res"
    shutil.copytree(real / name, tmp_path / name)
    shutil.copy(real / f"{name}_summary.json", tmp_path)
    # The largest of the three numbers in each of the five TXT files, except for the last label, which is wrong.
    info = write_info({0: 0, 1: 2, 2: 2, 3: 2, 4: 1})
    main([f"--result_path={tmp_path / name}_summary.json", f"--info_path={info}", "--num-classes", "3"])
    captured = capsys.readouterr()
    assert captured.out == "\ntop1_acc\t0.8000\n\ntop5_acc\t1.0000\n"
    assert "4/5" in captured.err
    metrics = json.loads((tmp_path / f"{name}_metrics.json").read_text())
    assert metrics["confusion"] == [[1, 0, 0], [0, 0, 1], [0, 0, 3]]
    assert metrics["mean_class_accuracy"] == pytest.approx(2 / 3)


def test_metrics_match_the_labels(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    scores = score(ScoreOptions(result_path=summary, info_path=write_info(truth)))
    document = json.loads(scores.metrics_path.read_text())
    assert scores.metrics_path == summary.with_name("out_metrics.json")
    assert (document["n"], document["classes"]) == (N, CLASSES)
    assert document["top1"]["correct"] == 13
    assert document["top5"]["correct"] == 17
    # Wilson's bounds are the roots of (p - x)² = z² x (1 - x) / n.
    p, z = 13 / N, 1.959963984540054
    roots = np.roots([1 + z * z / N, -2 * p - z * z / N, p * p])
    assert document["top1"]["wilson_95"] == pytest.approx(sorted(roots))
    assert sum(row["n"] for row in document["per_class"]) == N
    assert np.trace(document["confusion"]) == 13
    for row in document["per_class"]:
        mine = [index for index, label in truth.items() if label == row["class"]]
        assert row["n"] == len(mine)
        if mine:
            assert row["top1"] == sum(index < 13 for index in mine) / len(mine)


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
def test_every_batch_size_gives_the_same_bytes(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo, outfmt: str
) -> None:
    info = write_info(truth)
    runs = {
        batch: write_run(modelzoo(probabilities, batch), outfmt=outfmt, name=f"bs{batch}")
        for batch in (1, 3, 4, 8)
    }
    scores = {
        batch: score(ScoreOptions(result_path=run, info_path=info, num_classes=CLASSES))
        for batch, run in runs.items()
    }
    assert len({entry.metrics_path.read_bytes() for entry in scores.values()}) == 1
    padding = {1: 0, 3: 2, 4: 2, 8: 2}
    for batch, entry in scores.items():
        remarks = " ".join(entry.remarks)
        assert (f"{padding[batch]} padding rows" in remarks) == bool(padding[batch])


def test_npy_and_bin_give_the_same_bytes_and_txt_the_same_accuracy(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    npy, raw, txt = (
        score(
            ScoreOptions(
                result_path=write_run(one_a_file(probabilities), outfmt=outfmt, name=outfmt),
                info_path=info,
                num_classes=CLASSES,
            )
        )
        for outfmt in ("NPY", "BIN", "TXT")
    )
    assert npy.metrics_path.read_bytes() == raw.metrics_path.read_bytes()
    assert (txt.metrics.confusion == npy.metrics.confusion).all()


def test_the_order_of_files_and_lines_does_not_matter(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    # Unpadded names sort 0, 1, 10, 11, ..., 2 as text; a shuffle is in no order at all.
    plain = {str(int(stem)): row for stem, row in one_a_file(probabilities).items()}
    as_text = {stem: plain[stem] for stem in sorted(plain)}
    shuffled = {stem: plain[stem] for stem in np.random.default_rng(0).permutation(list(plain))}
    info = write_info(truth)
    files = [
        score(ScoreOptions(result_path=write_run(rows, name=name), info_path=info)).metrics_path.read_bytes()
        for name, rows in {"plain": plain, "as_text": as_text, "shuffled": shuffled}.items()
    ]
    assert files[0] == files[1] == files[2]
    backwards = write_info(dict(reversed(truth.items())))
    again = score(ScoreOptions(result_path=write_run(plain, name="again"), info_path=backwards))
    assert again.metrics.top1.correct == 13


def test_padding_rows_may_be_missing(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    rows = modelzoo(probabilities, 4)
    rows["5"] = rows["5"][:2]
    scores = score(ScoreOptions(result_path=write_run(rows), info_path=write_info(truth)))
    assert scores.metrics.top1.correct == 13


def test_extra_axes_of_an_npy_and_a_second_output_are_fine(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run({stem: row[None] for stem, row in one_a_file(probabilities).items()})
    document = json.loads(summary.read_text())
    for entry in document["filesinfo"].values():
        entry["outfiles"].append(entry["outfiles"][0].replace("_0.npy", "_1.npy"))
    summary.write_text(json.dumps(document))
    assert score(ScoreOptions(result_path=summary, info_path=write_info(truth))).metrics.top1.correct == 13


def test_the_provenance_has_the_digests_of_labels_and_scores(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    scores = score(ScoreOptions(result_path=write_run(one_a_file(probabilities)), info_path=info))
    provenance = json.loads(scores.metrics_path.read_text())["provenance"]
    little_endian = b"".join(struct.pack("<f", value) for row in probabilities.tolist() for value in row)
    assert provenance == {
        "labels_sha256": hashlib.sha256(info.read_bytes()).hexdigest(),
        "outputs_sha256": hashlib.sha256(little_endian).hexdigest(),
    }
