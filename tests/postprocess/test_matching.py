from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, N, WriteInfo, WriteRun, one_a_file, refusal
from scored_stores import pack, pack_views, run_store

from postprocess.score import ScoreOptions, score
from vidom.errors import UsageError


@pytest.mark.parametrize("near", ["infiles", "info"])
def test_a_store_defines_which_rows_are_samples(
    probabilities: np.ndarray, truth: dict[int, int], write_run: WriteRun, tmp_path: Path, near: str
) -> None:
    files = set()
    for per_file in (2, 3, 4, 8):
        store = pack(tmp_path / f"store{per_file}", truth, per_file=per_file, skip=5)
        info = store / "sthv2.info"
        if near == "infiles":
            info = shutil.copy(info, tmp_path / "elsewhere.info")
        inputs = str(store / "clips") if near == "infiles" else "./gone/clips"
        summary = write_run(run_store(probabilities, per_file, 5), name=f"bs{per_file}", inputs=inputs)
        scores = score(ScoreOptions(result_path=summary, info_path=info))
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
    with pytest.raises(UsageError, match="Conflicting class counts"):
        score(ScoreOptions(result_path=summary, info_path=own, num_classes=8))


def test_samples_that_could_not_be_packed_are_named_so(
    probabilities: np.ndarray,
    truth: dict[int, int],
    write_run: WriteRun,
    write_info: WriteInfo,
    tmp_path: Path,
) -> None:
    store = pack(tmp_path / "store", truth, per_file=2, skip=5)
    summary = write_run(run_store(probabilities, 2, 5), inputs=str(store / "clips"))
    message = refusal(summary, write_info(truth))
    assert "1 of the 22 samples" in message
    assert "1 of them could not be read when the store was packed" in message


def test_missing_and_duplicate_views_are_named(
    truth: dict[int, int], write_run: WriteRun, tmp_path: Path
) -> None:
    store = pack_views(tmp_path / "store", truth, views=3, average_clips="score")
    inputs, row = str(store / "clips"), np.arange(CLASSES, dtype=np.float32)[None]
    good = {f"{index:06d}v{view:02d}": row for index in truth for view in range(3)}
    for view in range(3):
        less = {stem: row for stem in good if stem != f"000004v{view:02d}"}
        summary = write_run(less, name=f"less{view}", inputs=inputs)
        message = refusal(summary, store / "sthv2.info")
        assert message.startswith(
            f"1 views have no output, but other views of their samples do: view {view} of sample 4"
        )
    summary = write_run(good, name="double", inputs=inputs)
    document = json.loads(summary.read_text())
    (infile,) = document["filesinfo"]["0"]["infiles"]
    shutil.copy(summary.with_name("double") / "000000v00_0.npy", summary.with_name("double") / "again_0.npy")
    document["filesinfo"]["99"] = {"infiles": [infile], "outfiles": ["double/again_0.npy"]}
    summary.write_text(json.dumps(document))
    assert "1 views have more than one output: view 0 of sample 0 (video0)" in refusal(
        summary, store / "sthv2.info"
    )
