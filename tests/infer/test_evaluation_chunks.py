"""Chunks of clips for ais_bench, with a stub of it: no NPU takes part and no number is a measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ascend_bench import Bench
from evaluation_cases import SHAPE, names, om_model, run_evaluation, sum_model, write_list, write_recipe

from infer.evaluation import chunks
from infer.evaluation.conclusion import Evaluation
from infer.evaluation.record import read_rows
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError
from vidom.files import parse_bytes

SAMPLES = 11
SAMPLE_BYTES = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]
FILES = ["evaluation.json", "metrics.json", "record.jsonl"]


@pytest.fixture
def annotations(bench: Bench) -> Path:
    write_recipe(bench.folder)
    return write_list(bench.folder / "list.txt", SAMPLES)


def chunked(annotations: Path, name: str = "out", **options: object) -> Evaluation:
    model = om_model(Path("m.om"), 2)
    chosen = {"window": 4 * SAMPLE_BYTES + 1, "batch_size": 2, "engine": "ascend", **options}
    return run_evaluation(annotations.parent / name, model, annotations, **chosen)


@pytest.mark.slow
def test_the_bytes_are_those_of_a_run_with_arrays(
    bench: Bench, annotations: Path, caplog: pytest.LogCaptureFixture
):
    result = chunked(annotations)
    assert not [record.message for record in caplog.records if record.levelname == "WARNING"]
    streamed = run_evaluation(bench.folder / "streamed", sum_model(bench.folder / "m.onnx", 4), annotations)
    assert result.metrics_path.read_bytes() == streamed.metrics_path.read_bytes()
    assert (result.run.computed, result.run.resumed) == (SAMPLES, 0)
    assert names(bench.folder / "out") == names(bench.folder / "streamed") == FILES
    # Four clips at a time, with manifest and outputs; all eleven would be three times as much.
    assert 4 * SAMPLE_BYTES < result.run.peak_disk_bytes < 8 * SAMPLE_BYTES + 20_000
    again = chunked(annotations)
    assert (again.run.computed, again.run.resumed) == (0, SAMPLES)
    assert again.metrics_path.read_bytes() == result.metrics_path.read_bytes()


@pytest.mark.slow
def test_a_run_killed_in_a_chunk_resumes_with_that_chunk(
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
    chunk, deadline = bench.folder / "killed" / "chunk.part", time.monotonic() + 60
    record = bench.folder / "killed" / "record.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if chunk.exists() and record.exists() and record.read_bytes().count(b"\n") > 4:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert chunk.exists()
    again = chunked(annotations, "killed", window=parse_bytes("0.007MB"))
    assert again.run.resumed in (4, 8) and again.run.resumed + again.run.computed == SAMPLES
    assert names(bench.folder / "killed") == FILES
    assert again.metrics_path.read_bytes() == chunked(annotations).metrics_path.read_bytes()


def test_a_failure_of_ais_bench_keeps_the_rows_and_the_chunk(bench: Bench, annotations: Path):
    bench.behave("half")
    with pytest.raises(ExternalToolError, match="507011"):
        chunked(annotations)
    assert names(bench.folder / "out") == ["chunk.part", "record.jsonl"]
    bench.behave("")
    assert chunked(annotations).run.computed == SAMPLES
    assert names(bench.folder / "out") == FILES


@pytest.mark.slow
def test_unreadable_videos(bench: Bench, annotations: Path):
    for number in (0, 1, 2, 3, 6):
        (bench.folder / "data" / f"s{number:03d}").unlink()
    with pytest.raises(BadDataError, match=r"Sample 0 of the list \(s000\) cannot be read"):
        chunked(annotations)
    assert names(bench.folder / "out") == ["record.jsonl"]
    result = chunked(annotations, on_bad="skip")
    assert [skip.index for skip in result.skipped] == [0, 1, 2, 3, 6] and result.metrics.n == 6
    streamed = run_evaluation(
        bench.folder / "streamed", sum_model(bench.folder / "m.onnx", 4), annotations, on_bad="skip"
    )
    assert result.metrics_path.read_bytes() == streamed.metrics_path.read_bytes()
    assert len(list(read_rows(bench.folder / "out" / "record.jsonl"))) == 6


def test_clips_of_a_permissive_umask_are_packed_for_ais_bench(bench: Bench, annotations: Path):
    om_model(Path("m.om"), 2)
    before = os.umask(0)
    try:
        assert chunked(annotations, limit=2).run.computed == 2
    finally:
        os.umask(before)


@pytest.mark.slow
def test_windows_of_one_batch_on_two_devices(bench: Bench, annotations: Path):
    result = chunked(annotations, window=2 * SAMPLE_BYTES, device=(0, 1))
    assert (result.run.computed, result.metrics.n) == (SAMPLES, SAMPLES)
    streamed = run_evaluation(bench.folder / "streamed", sum_model(bench.folder / "m.onnx", 4), annotations)
    assert result.metrics_path.read_bytes() == streamed.metrics_path.read_bytes()


def test_the_dtype_of_the_record_is_that_of_the_clips(bench: Bench, annotations: Path):
    Path("build.json").write_text(json.dumps({"models": {"m.om": {"made_from": {"input_dtype": "uint8"}}}}))
    with pytest.raises(
        UsageError, match=r"clips for m\.om are uint8 according to its build\.json, not float32"
    ):
        chunked(annotations, dtype="float32")
    assert not (bench.folder / "out").exists()


def test_what_is_refused_before_a_clip_is_packed(
    bench: Bench, annotations: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(
        UsageError, match=r"smaller than a batch of 2 samples of 1\.5 kB each. Give at least 3\.1 kB"
    ):
        chunked(annotations, "small", window=SAMPLE_BYTES)
    with pytest.raises(UsageError, match="--threads belongs to onnxruntime and openvino"):
        chunked(annotations, "threads", threads=2)
    monkeypatch.setattr(chunks, "free_bytes", lambda _: 3 * SAMPLE_BYTES)
    with pytest.raises(
        UnavailableError, match=r"A chunk of 4 samples takes 6\.1 kB, but only 4\.6 kB are free"
    ):
        chunked(annotations, "full")
    assert names(bench.folder / "full") == ["record.jsonl"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GB", 2_000_000_000), ("1.5 TB", 1_500_000_000_000), ("800kB", 800_000), ("7B", 7)],
)
def test_sizes(text: str, expected: int):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "2", "GB", "2 gb", "-1GB", "1e9B", "2GiB"])
def test_invalid_sizes(text: str):
    with pytest.raises(UsageError, match="such as 2GB"):
        parse_bytes(text)
