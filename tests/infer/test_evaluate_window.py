"""A window of clips for ais_bench, shown with a stand-in for it: no NPU takes part and no number is a measurement."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ascend_bench import Bench
from evaluation_cases import SHAPE, om_model, run_evaluation, sum_model, write_list, write_recipe

from infer.evaluate import Evaluation
from infer.evaluation import one_window
from infer.evaluation.score_record import read_rows
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError
from vidom.files import parse_bytes

SAMPLES = 11
SAMPLE_BYTES = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]
FILES = ["evaluation.json", "metrics.json", "record.jsonl"]


@pytest.fixture
def annotations(bench: Bench) -> Path:
    write_recipe(bench.folder)
    return write_list(bench.folder / "list.txt", SAMPLES)


def windowed(annotations: Path, name: str = "out", **options: object) -> Evaluation:
    model = om_model(Path("m.om"), 2)
    chosen = {"window": 4 * SAMPLE_BYTES + 1, "batch_size": 2, "engine": "ascend", **options}
    return run_evaluation(annotations.parent / name, model, annotations, **chosen)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_bytes_are_those_of_the_streamed_run(bench: Bench, annotations: Path):
    result = windowed(annotations)
    streamed = run_evaluation(bench.folder / "streamed", sum_model(bench.folder / "m.onnx", 4), annotations)
    assert result.metrics_path.read_bytes() == streamed.metrics_path.read_bytes()
    assert (result.ran.computed, result.ran.resumed) == (SAMPLES, 0)
    assert names(bench.folder / "out") == names(bench.folder / "streamed") == FILES
    # Four clips at a time, with manifest and outputs; all eleven would be three times as much.
    assert 4 * SAMPLE_BYTES < result.ran.peak_disk_bytes < 8 * SAMPLE_BYTES + 20_000
    again = windowed(annotations)
    assert (again.ran.computed, again.ran.resumed) == (0, SAMPLES)
    assert again.metrics_path.read_bytes() == result.metrics_path.read_bytes()


def test_killed_in_a_window_it_continues_with_that_window(
    bench: Bench, annotations: Path, monkeypatch: pytest.MonkeyPatch
):
    om_model(Path("m.om"), 2)
    options = {"recipe": "sums.yaml", "data_root": "data", "ann_file": "list.txt", "model": "m.om"}
    options |= {
        "output_dir": "killed",
        "engine": "ascend",
        "batch_size": "2",
        "window": "0.007MB",
        "workers": "1",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "infer.evaluate", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    window, deadline = bench.folder / "killed" / "window.part", time.monotonic() + 60
    record = bench.folder / "killed" / "record.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if window.exists() and record.exists() and record.read_bytes().count(b"\n") > 4:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert window.exists()
    again = windowed(annotations, "killed", window=parse_bytes("0.007MB"))
    assert again.ran.resumed in (4, 8) and again.ran.resumed + again.ran.computed == SAMPLES
    assert names(bench.folder / "killed") == FILES
    assert again.metrics_path.read_bytes() == windowed(annotations).metrics_path.read_bytes()


def test_a_failure_of_ais_bench_keeps_the_rows_and_the_window(bench: Bench, annotations: Path):
    bench.behave("half")
    with pytest.raises(ExternalToolError, match="507011"):
        windowed(annotations)
    assert names(bench.folder / "out") == ["record.jsonl", "window.part"]
    bench.behave("")
    assert windowed(annotations).ran.computed == SAMPLES
    assert names(bench.folder / "out") == FILES


def test_unreadable_videos(bench: Bench, annotations: Path):
    for number in (0, 1, 2, 3, 6):
        (bench.folder / "data" / f"s{number:03d}").unlink()
    with pytest.raises(BadDataError, match=r"Sample 0 of the list \(s000\) can not be read"):
        windowed(annotations)
    assert names(bench.folder / "out") == ["record.jsonl"]
    result = windowed(annotations, on_bad="skip")
    assert [skip.index for skip in result.skipped] == [0, 1, 2, 3, 6] and result.metrics.n == 6
    streamed = run_evaluation(
        bench.folder / "streamed", sum_model(bench.folder / "m.onnx", 4), annotations, on_bad="skip"
    )
    assert result.metrics_path.read_bytes() == streamed.metrics_path.read_bytes()
    assert len(list(read_rows(bench.folder / "out" / "record.jsonl"))) == 6


def test_what_is_refused_before_a_clip_is_packed(
    bench: Bench, annotations: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(
        UsageError, match=r"holds no batch of 2 samples of 1\.5 kB each. Give at least 3\.1 kB"
    ):
        windowed(annotations, "small", window=SAMPLE_BYTES)
    with pytest.raises(UsageError, match="--threads is not for --engine ascend"):
        windowed(annotations, "threads", threads=2)
    monkeypatch.setattr(one_window, "free_bytes", lambda _: 3 * SAMPLE_BYTES)
    with pytest.raises(
        UnavailableError, match=r"A window of 4 samples takes 6\.1 kB, but only 4\.6 kB are free"
    ):
        windowed(annotations, "full")
    assert names(bench.folder / "full") == ["record.jsonl"]


@pytest.mark.parametrize(
    ("text", "wanted"), [("2GB", 2_000_000_000), ("1.5 TB", 1_500_000_000_000), ("800kB", 800_000), ("7B", 7)]
)
def test_sizes(text: str, wanted: int):
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "2", "GB", "2 gb", "-1GB", "1e9B", "2GiB"])
def test_what_is_no_size(text: str):
    with pytest.raises(UsageError, match="such as 2GB"):
        parse_bytes(text)
