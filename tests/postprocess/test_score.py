from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from postprocess.score import main, score
from vidom.clip_store import ClipFile, Sample, Skipped, StoreHeader
from vidom.clip_store_writer import ClipStoreWriter
from vidom.errors import BadData, JudgementFailed, UsageError

WriteRun = Callable[..., Path]
WriteInfo = Callable[[Mapping[int, int]], Path]
N, CLASSES = 22, 7
SCRIPT = Path(__file__).resolve().parents[2] / "postprocess" / "score.py"


@pytest.fixture(scope="module")
def probabilities() -> np.ndarray:
    rng = np.random.default_rng(7)
    exp = np.exp(rng.normal(size=(N, CLASSES)))
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def truth(probabilities: np.ndarray) -> dict[int, int]:
    """Labels of which the first choices are 13 right, the second choices 4."""
    order = np.argsort(-probabilities, axis=1)
    ranks = [0] * 13 + [1] * 4 + [6] * 5
    return {index: int(order[index, rank]) for index, rank in enumerate(ranks)}


def one_a_file(values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{index:06d}": values[index : index + 1] for index in range(len(values))}


def modelzoo(values: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    """The published layout: files 0, 1, 2 ... of `batch` rows, the last one filled up with something."""
    padding = np.full((-len(values) % batch, values.shape[1]), 1 / values.shape[1], values.dtype)
    full = np.concatenate([values, padding])
    return {str(k): full[k * batch : (k + 1) * batch] for k in range(len(full) // batch)}


def refusal(summary: Path, info: Path, **options: object) -> str:
    with pytest.raises(BadData) as caught:
        score(result_path=summary, info_path=info, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
@pytest.mark.parametrize("batch", [1, 2])
def test_real_ais_bench_results(
    shared: Path,
    tmp_path: Path,
    write_info: WriteInfo,
    capsys: pytest.CaptureFixture[str],
    batch: int,
    outfmt: str,
) -> None:
    name = f"bs{batch}_{outfmt}"
    real = shared / "fixtures" / "ascend" / "ais_bench" / "res"
    shutil.copytree(real / name, tmp_path / name)
    shutil.copy(real / f"{name}_summary.json", tmp_path)
    # The largest of the three numbers in each of the five TXT files, but for the last, which is called wrong.
    info = write_info({0: 0, 1: 2, 2: 2, 3: 2, 4: 1})
    main([f"--result_path={tmp_path / name}_summary.json", f"--info_path={info}", "--num-classes", "3"])
    captured = capsys.readouterr()
    assert captured.out == "\ntop1_acc\t0.8000\n\ntop5_acc\t1.0000\n"
    assert "4/5" in captured.err
    metrics = json.loads((tmp_path / f"{name}_metrics.json").read_text())
    assert metrics["confusion"] == [[1, 0, 0], [0, 0, 1], [0, 0, 3]]
    assert metrics["mean_class_accuracy"] == pytest.approx(2 / 3)


def test_metrics_say_what_the_labels_say(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    scores = score(result_path=summary, info_path=write_info(truth))
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
        batch: score(result_path=run, info_path=info, num_classes=CLASSES) for batch, run in runs.items()
    }
    assert len({entry.metrics_path.read_bytes() for entry in scores.values()}) == 1
    padding = {1: 0, 3: 2, 4: 2, 8: 2}
    for batch, entry in scores.items():
        told = " ".join(entry.remarks)
        assert (f"{padding[batch]} rows of padding" in told) == bool(padding[batch])


def test_npy_and_bin_give_the_same_bytes_and_txt_the_same_accuracy(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    npy, raw, txt = (
        score(
            result_path=write_run(one_a_file(probabilities), outfmt=outfmt, name=outfmt),
            info_path=info,
            num_classes=CLASSES,
        )
        for outfmt in ("NPY", "BIN", "TXT")
    )
    assert npy.metrics_path.read_bytes() == raw.metrics_path.read_bytes()
    assert (txt.metrics.confusion == npy.metrics.confusion).all()


def test_the_order_of_files_and_lines_does_not_matter(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    # Unpadded names sort 0, 1, 10, 11, ..., 2 as text; a further shuffle is worse than any sorting.
    plain = {str(int(stem)): row for stem, row in one_a_file(probabilities).items()}
    as_text = {stem: plain[stem] for stem in sorted(plain)}
    shuffled = {stem: plain[stem] for stem in np.random.default_rng(0).permutation(list(plain))}
    info = write_info(truth)
    files = [
        score(result_path=write_run(rows, name=name), info_path=info).metrics_path.read_bytes()
        for name, rows in {"plain": plain, "as_text": as_text, "shuffled": shuffled}.items()
    ]
    assert files[0] == files[1] == files[2]
    backwards = write_info(dict(reversed(truth.items())))
    again = score(result_path=write_run(plain, name="again"), info_path=backwards)
    assert again.metrics.top1.correct == 13


def test_a_files_last_rows_may_be_left_out_when_they_are_padding(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    rows = modelzoo(probabilities, 4)
    rows["5"] = rows["5"][:2]
    scores = score(result_path=write_run(rows), info_path=write_info(truth))
    assert scores.metrics.top1.correct == 13


def test_extra_axes_of_an_npy_and_a_second_output_are_fine(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run({stem: row[None] for stem, row in one_a_file(probabilities).items()})
    document = json.loads(summary.read_text())
    for entry in document["filesinfo"].values():
        entry["outfiles"].append(entry["outfiles"][0].replace("_0.npy", "_1.npy"))
    summary.write_text(json.dumps(document))
    assert score(result_path=summary, info_path=write_info(truth)).metrics.top1.correct == 13


# --- folders without a summary ------------------------------------------------------------------------------


def test_a_result_folder_is_enough(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(modelzoo(probabilities, 4), outfmt="TXT")
    expected = score(result_path=summary, info_path=info).metrics_path.read_bytes()
    folder = summary.with_name("out")
    # ModelZoo's guides have the summary moved about; inside the folder it is no result.
    summary.rename(folder / "sumary.json")
    (folder / "out_summary.json").write_text("{}")
    (folder / "0_1.txt").write_text("a second output\n")
    scores = score(result_path=folder, info_path=info)
    assert scores.metrics_path == summary.with_name("out_metrics.json")
    assert scores.metrics_path.read_bytes() == expected


def test_a_folders_sibling_summary_is_used_against_stale_files(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    np.save(summary.with_name("out") / "000099_0.npy", probabilities[:1])
    info = write_info(truth)
    assert score(result_path=summary.with_name("out"), info_path=info).metrics.n == N
    summary.unlink()
    assert "no label in the list: samples 99" in refusal(summary.with_name("out"), info)


def test_folders_that_say_nothing_or_too_much(
    tmp_path: Path, write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info({0: 0})
    (tmp_path / "empty").mkdir()
    assert "holds no outputs" in refusal(tmp_path / "empty", info)
    assert "does not exist" in refusal(tmp_path / "nowhere", info)
    summary = write_run({"0": np.eye(2)[:1]})
    summary.unlink()
    (summary.with_name("out") / "0_0.txt").write_text("1 0 \n")
    assert "two formats" in refusal(summary.with_name("out"), info)


# --- clip stores --------------------------------------------------------------------------------------------


def pack(folder: Path, labels: Mapping[int, int], *, per_file: int, skip: int | None = None) -> Path:
    header = StoreHeader(
        recipe="r", recipe_sha256="0", list_sha256="0", dtype="uint8", shape=(1,), layout="NCTHW",
        normalised=False, samples_per_file=per_file, decoder="cv2",
    )  # fmt: skip
    writer = ClipStoreWriter(folder, header)
    indices = sorted(labels)
    for start in range(0, len(indices), per_file):
        group = indices[start : start + per_file]
        good = [index for index in group if index != skip]
        name = writer.file_name(start)
        (folder / "clips" / name).write_bytes(bytes(per_file))
        writer.add(
            ClipFile(name, per_file, 0, tuple(good), per_file - len(good)),
            [Sample(index, f"video{index}", labels[index], "", ()) for index in good],
            [Skipped(index, f"video{index}", "", "no frames") for index in group if index == skip],
        )
    writer.finish([f"class {index}" for index in range(CLASSES)], "sthv2.info")
    return folder


def run_store(values: np.ndarray, per_file: int, skip: int | None) -> dict[str, np.ndarray]:
    """What an engine gives for `pack`'s files: a missing sample's row is gone, the first one fills up."""
    rows = {}
    for k in range(-(-N // per_file)):
        group = [index for index in range(k * per_file, min((k + 1) * per_file, N)) if index != skip]
        rows[f"{k:06d}"] = values[(group + group[:1] * per_file)[:per_file]]
    return rows


@pytest.mark.parametrize("beside", ["infiles", "info"])
def test_a_store_says_exactly_which_rows_are_samples(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path, beside: str
) -> None:
    files = set()
    for per_file in (2, 3, 4, 8):
        store = pack(tmp_path / f"store{per_file}", truth, per_file=per_file, skip=5)
        info = store / "sthv2.info"
        if beside == "infiles":
            info = shutil.copy(info, tmp_path / "elsewhere.info")
        inputs = str(store / "clips") if beside == "infiles" else "./gone/clips"
        summary = write_run(run_store(probabilities, per_file, 5), name=f"bs{per_file}", inputs=inputs)
        scores = score(result_path=summary, info_path=info)
        assert scores.metrics.top1.correct == 12  # sample 5 was right
        assert scores.metrics.n == N - 1
        assert any("5 (video5)" in remark for remark in scores.remarks)
        assert scores.names[3] == "class 3"
        files.add(scores.metrics_path.read_bytes())
    assert len(files) == 1
    assert b'"name": "class 3"' in files.pop()


def test_a_store_and_its_results_must_belong_together(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    store = pack(tmp_path / "store", truth, per_file=1)
    own, inputs = store / "sthv2.info", str(store / "clips")
    good = one_a_file(probabilities)
    summary = write_run(good, inputs=inputs)
    other = write_info({index: truth[N - 1 - index] for index in truth})
    assert "(video0)" in refusal(summary, other)
    assert "does not have: 000077" in refusal(write_run({**good, "000077": good["000000"]}, name="more"), own)
    less = write_run({stem: good[stem] for stem in list(good)[:4]}, name="less", inputs=inputs)
    assert "18 of the 22 samples in the list have no output: 4 (video4)" in refusal(less, own)
    views = write_run({stem: np.repeat(row, 6, 0) for stem, row in good.items()}, name="views", inputs=inputs)
    assert "--average_clips" in refusal(views, own)
    with pytest.raises(UsageError, match="contradictory"):
        score(result_path=summary, info_path=own, num_classes=8)


def test_samples_that_could_not_be_packed_are_named_so(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    store = pack(tmp_path / "store", truth, per_file=2, skip=5)
    summary = write_run(run_store(probabilities, 2, 5), inputs=str(store / "clips"))
    told = refusal(summary, write_info(truth))
    assert "1 of the 22 samples" in told
    assert "1 of them could not be read when the store was packed" in told


# --- refusals -----------------------------------------------------------------------------------------------


def test_missing_outputs_are_named(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    summary = write_run(one_a_file(probabilities))
    for index in range(3, 17):
        (summary.with_name("out") / f"{index:06d}_0.npy").unlink()
    told = refusal(summary, info)
    assert "14 of the 22" in told
    assert "000003_0.npy" in told
    assert "and 4 more" in told
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


def test_doubled_outputs_are_named(
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
def test_scores_that_are_no_numbers_are_named(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    value: float,
    outfmt: str,
) -> None:
    spoilt = probabilities.copy()
    spoilt[[6, 6, 19], [0, 2, 1]] = value
    summary = write_run(one_a_file(spoilt), outfmt=outfmt)
    assert "2 samples have a score that is NaN or infinite: 6, 19." in refusal(
        summary, write_info(truth), num_classes=CLASSES
    )


def test_files_of_another_shape_are_named(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info(truth)
    good = one_a_file(probabilities)
    narrow = {**good, "000003": probabilities[:1, :-1], "000011": probabilities[:2]}
    told = refusal(write_run(narrow), info)
    assert "000003_0.npy (6 columns instead of 7), 000011_0.npy (2 rows instead of 1)" in told
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
    # Four samples of six views in each file: 24 rows, of which a list of 22 needs one file.
    batches = {str(k): np.repeat(rows, 6, axis=0) for k, rows in modelzoo(probabilities, 4).items()}
    assert "Each of the 6 output files holds 24 rows" in refusal(write_run(batches, name="batches"), info)


def test_labels_must_fit_the_outputs(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary = write_run(one_a_file(probabilities))
    shorter = write_info({index: label for index, label in truth.items() if index not in (3, 21)})
    assert "2 outputs have no label in the list: samples 3, 21" in refusal(summary, shorter)
    beyond = write_info({**truth, 8: CLASSES, 9: 10**30})
    assert "2 samples" in refusal(summary, beyond)
    assert "8, 9" in refusal(summary, beyond)
    far = write_info({**truth, 10**30: 0})
    assert f"no output: {10**30}" in refusal(summary, far)
    whole_batch = write_run(modelzoo(probabilities, 4), name="batch")
    few = write_info({index: truth[index] for index in range(4)})
    assert "take 1" in refusal(whole_batch, few)


def test_names_that_do_not_say_which_sample(
    probabilities: np.ndarray, write_run: WriteRun, write_info: WriteInfo
) -> None:
    info = write_info({0: 0, 1: 1})
    row = probabilities[:1]
    assert "pure_infer_data" in refusal(write_run({"pure_infer_data": row}, name="pure"), info)
    assert "b_1" in refusal(write_run({"a_0": row, "b_1": row, "a_2": row}, name="mixed"), info)
    assert "padding_infer_fake_file" in refusal(
        write_run({"0": row, "1": row, "padding_infer_fake_file": row}, name="padded"), info
    )


def test_a_summary_can_not_point_out_of_its_folder(
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
    assert score(result_path=moved, info_path=write_info(truth)).metrics.top1.correct == 13


# --- options and remarks -------------------------------------------------------------------------------------


def test_thresholds(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--result-path",
        str(write_run(one_a_file(probabilities))),
        "--info-path",
        str(write_info(truth)),
    ]
    met, missed = (
        ["--threshold", "top1=0.59", "top5=0.77"],
        ["--threshold", "top1=0.59", "--threshold", "top5=0.78"],
    )
    assert main([*arguments, *met]) is None
    capsys.readouterr()
    with pytest.raises(JudgementFailed, match=r"top5 is 0\.7727, below 0\.78\.$"):
        main([*arguments, *missed])
    assert capsys.readouterr().out == "\ntop1_acc\t0.5909\n\ntop5_acc\t0.7727\n"
    with pytest.raises(UsageError, match=r"Did you mean top1\?$"):
        main([*arguments, "--threshold", "top_1=0.6"])
    with pytest.raises(UsageError, match="fraction from 0 to 1"):
        main([*arguments, "--threshold", "top1=61.87"])
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--threshold", "top1"])
    assert caught.value.code == 2


def test_class_names_and_output_place(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"推 {index}\n" for index in range(CLASSES)), encoding="utf-8")
    raw = write_run(one_a_file(probabilities), outfmt="BIN")
    info = write_info(truth)
    with pytest.raises(UsageError, match="--num_classes"):
        score(result_path=raw, info_path=info)
    with pytest.raises(UsageError, match="1 or more"):
        score(result_path=raw, info_path=info, num_classes=0)
    place = tmp_path / "new" / "m.json"
    scores = score(result_path=raw, info_path=info, labels=labels, output=place)
    assert scores.metrics_path == place
    assert json.loads(place.read_text(encoding="utf-8"))["per_class"][2]["name"] == "推 2"
    assert not raw.with_name("out_metrics.json").exists()


def test_remarks(write_run: WriteRun, write_info: WriteInfo) -> None:
    info = write_info({0: 0, 1: 1, 2: 2})
    constant = {str(index): np.full((1, 6), 1 / 6) for index in range(3)}
    scores = score(result_path=write_run(constant), info_path=info)
    told = " ".join(scores.remarks)
    assert "exactly the same scores" in told
    assert "top-1 of 3 and top-5 of 3" in told
    logits = {str(index): np.eye(6)[index : index + 1] * 30 - 9 for index in range(3)}
    scores = score(result_path=write_run(logits, name="logits"), info_path=info)
    assert "no probabilities" in " ".join(scores.remarks)
    assert scores.metrics.top1.value == 1
    plain = {str(index): np.eye(6)[index : index + 1] for index in range(3)}
    assert score(result_path=write_run(plain, name="plain"), info_path=info).remarks == ()


def test_as_a_script(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, write_info: WriteInfo
) -> None:
    summary, info = write_run(one_a_file(probabilities), outfmt="TXT"), write_info(truth)

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), f"--result_path={summary}", f"--info_path={info}", *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    low = call("--threshold", "top1=0.9")
    assert low.returncode == 1
    assert low.stdout == "\ntop1_acc\t0.5909\n\ntop5_acc\t0.7727\n"
    assert (
        low.stderr.splitlines()[-1]
        == "error: The accuracy is not what was asked for: top1 is 0.5909, below 0.9."
    )
    assert summary.with_name("out_metrics.json").is_file()
    (summary.with_name("out") / "000005_0.txt").write_text("0.1 nan 0.2 0.3 0.1 0.1 0.1 \n")
    spoilt = call()
    assert (spoilt.returncode, spoilt.stdout) == (4, "")
    assert "Traceback" not in spoilt.stderr
    assert "NaN or infinite: 5." in spoilt.stderr
    assert call("--threshold", "top2=0.9").returncode == 2
