"""The benchmark of scoring: all variants do the same work with the same result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scoring.__main__ import ScoringOptions, main, scoring
from benchmarks.scoring.modelzoo_scorer import read_texts, score_texts
from benchmarks.scoring.result_files import write_results
from postprocess.score import ScoreOptions, score
from vidom.errors import ExternalToolError, UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS


def test_all_variants_give_the_same_accuracy(tmp_path: Path) -> None:
    results = write_results(tmp_path / "synthetic", samples=300, classes=7)
    info = results.info(250)
    assert len(info.read_text().splitlines()) == 250
    truth = score_texts(results.summary("TXT", 250), info)
    assert 0 < truth[0] < truth[1] < 1
    for outfmt in OUTPUT_FORMATS:
        metrics = score(
            ScoreOptions(
                result_path=results.summary(outfmt, 250),
                info_path=info,
                num_classes=7,
                output=tmp_path / "m.json",
            )
        ).metrics
        assert [metrics.top1.value, metrics.top5.value] == truth
    sums = [row.sum() for row in read_texts(results.summary("TXT", 300))]
    np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.slow
def test_the_report_has_a_row_for_each_variant_and_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output_dir", str(tmp_path), "--samples", "120", "--classes", "6", "--rounds", "1"]
    code = main([*words, "--modelzoo_python", sys.executable])
    assert capsys.readouterr().out == (tmp_path / "scoring.md").read_text()
    document = json.loads((tmp_path / "scoring.json").read_text())
    assert code == (0 if all(target["met"] for target in document["targets"]) else 1)
    reading, complete, scaling = (table["rows"] for table in document["tables"])
    version = f"Python {sys.version.split()[0]}, numpy {np.__version__}"
    assert [row[0] for row in complete] == [
        "ModelZoo's scorer, TXT", f"ModelZoo's scorer, TXT, {version}", "vidom, BIN", "vidom, NPY", "vidom, TXT",
    ]  # fmt: skip
    assert [row[0] for row in scaling] == [10, 100, 120]
    assert [row[1] for row in complete] == scaling[-1][1:6]
    for rows in (reading, complete):
        for row in rows:
            assert row[3] == pytest.approx(rows[0][1] / row[1])
    times = {row[0]: row[1] for row in reading}
    targets = [target["measured"] for target in document["targets"]]
    assert targets[0] == pytest.approx(times["np.loadtxt on each file"] / times["vidom, TXT"])
    assert len(targets) == 3
    # Only the report is left, not the synthetic results.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scoring.json", "scoring.md", "scoring.png"]


def test_wrong_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="10 samples"):
        ScoringOptions(samples=9)
    with pytest.raises(ExternalToolError, match="numpy"):
        scoring(ScoringOptions(output_dir=tmp_path, samples=10, modelzoo_python="/bin/true"))
