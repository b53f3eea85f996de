from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation.__main__ import EvaluationOptions
from benchmarks.evaluation.stage_times import Case, StageTimes, command, repeated
from preprocess.datasets.annotations import read_annotations
from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe

SYNTH = Path(__file__).resolve().parents[1] / "fixtures" / "synth"


def test_the_ratios_of_the_stages():
    times = StageTimes("x", workers=1, threads=1, decode=4.0, engine=1.0, combined=4.2)
    assert (times.over_slower, times.over_sum) == (pytest.approx(1.05), pytest.approx(0.84))


def test_a_list_repeats_the_samples_under_unique_names(tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("square_256x256 8 3\nland_427x240 8 5\n")
    case = Case(load_recipe("tsm_demo"), tmp_path / "m.onnx", SYNTH, listed)
    many = repeated(case, 5, tmp_path / "many")
    entries = read_annotations(many.ann_file)
    assert [entry.label for entry in entries] == [3, 5, 3, 5, 3]
    assert len({entry.id for entry in entries}) == 5
    for number, entry in enumerate(entries):
        source = SYNTH / ("land_427x240" if number % 2 else "square_256x256")
        frames = [(folder / "img_00001.jpg").read_bytes() for folder in (many.data_root / entry.path, source)]
        assert np.array_equal(*(np.frombuffer(content, np.uint8) for content in frames))
    words = command(many, tmp_path / "out")
    assert words[words.index("--ann_file") + 1] == str(many.ann_file)


def test_too_few_samples_are_rejected():
    with pytest.raises(UsageError, match="--largest at least 100"):
        EvaluationOptions(largest=10)
