"""Extraction that is interrupted, resumed, given different settings, or too small a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_videos import cut, tree, write_video

import preprocess.datasets.extraction_run as extraction_run
from preprocess.datasets.extraction_run import extract_all
from preprocess.datasets.frame_extraction import ExtractionJob, ExtractionSettings
from vidom.errors import BadDataError, UnavailableError, UsageError

VIDEOS = 24


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(VIDEOS):
        write_video(
            tmp_path / "src" / "val" / "abc"[number % 3] / f"{number}.mp4",
            frames=40,
            size=(160, 120),
            seed=number,
        )
    return tmp_path / "src"


def command(source: Path, out: str, workers: int) -> list[str]:
    script = Path(__file__).parents[2] / "preprocess" / "prepare.py"
    return [
        *(sys.executable, str(script), "--dataset", "folder", "--src", str(source), "--out", out),
        *("--workers", str(workers)),
    ]


def jpegs(folder: Path) -> int:
    # Unlike glob, walk tolerates folders that are renamed meanwhile.
    return sum(name.endswith(".jpg") for _, _, names in os.walk(folder) for name in names)


def descendants(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children}


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_extraction_ends_with_the_same_bytes(
    source: Path, tmp_path: Path, workers: int
) -> None:
    untouched, killed = tmp_path / "untouched", tmp_path / "killed"
    for folder in (untouched, killed):
        folder.mkdir()
    subprocess.run(command(source, "out", 1), cwd=untouched, check=True, capture_output=True)
    truth = tree(untouched)
    # At the first frames, and again well into the second run.
    for enough in (30, VIDEOS * 40 // 2):
        process = subprocess.Popen(command(source, "out", workers), cwd=killed, stderr=subprocess.DEVNULL)
        while jpegs(killed / "out") < enough and process.poll() is None:
            time.sleep(0.002)
        children = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not (killed / "out" / "preparation.json").exists()
        deadline = time.monotonic() + 10
        while any(alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(child) for child in children), "a worker outlived the command"
    done = {
        path: path.stat().st_mtime_ns
        for path in (killed / "out").glob("rawframes_val/*/*")
        if path.suffix != ".part"
    }
    assert 0 < len(done) < VIDEOS
    subprocess.run(command(source, "out", workers), cwd=killed, check=True, capture_output=True)
    assert tree(killed) == truth
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())


def jobs_of(source: Path, out: Path, **settings) -> tuple[ExtractionJob, ...]:
    return tuple(
        ExtractionJob(path.stem, path, out / "frames" / path.stem, ExtractionSettings(**settings))
        for path in sorted(source.rglob("*.mp4"))
    )


def extract(source: Path, out: Path, **options):
    settings = options.pop("settings", {})
    jobs = jobs_of(source, out, **settings)
    return extract_all(jobs, settings=ExtractionSettings(**settings), out=out, **options)


def test_a_finished_folder_that_was_not_recorded_is_counted(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(source, out)
    truth = tree(out)
    journal = out / "extraction.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    # Six lines lost, the seventh truncated.
    journal.write_text("".join(lines[:-7]) + lines[-7][:9])
    results = extract(source, out)
    assert {result.frames for result in results.values()} == {40}
    assert tree(out) == truth


def test_a_deleted_folder_is_extracted_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(source, out)
    truth = tree(out)
    for path in (out / "frames" / "7").iterdir():
        path.unlink()
    (out / "frames" / "7").rmdir()
    extract(source, out)
    assert tree(out) == truth


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_videos_are_skipped_reported_and_retried(
    source: Path, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "out"
    complete = (source / "val" / "a" / "0.mp4").read_bytes()
    cut(source / "val" / "a" / "0.mp4")
    with pytest.raises(BadDataError, match="Extracted frames are kept"):
        extract(source, out, workers=workers)
    results = extract(source, out, workers=workers, on_bad="skip")
    assert [result.id for result in results.values() if result.reason] == ["0"]
    assert not (out / "frames" / "0").exists()
    (source / "val" / "a" / "0.mp4").write_bytes(complete)
    results = extract(source, out, workers=workers)
    assert {result.frames for result in results.values()} == {40}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"quality": 90}, {"short_side": 64}, {"decoder": "opencv"}])
def test_frames_of_different_settings_are_not_mixed(source: Path, tmp_path: Path, settings: dict) -> None:
    extract(source, tmp_path / "out")
    (key,) = settings
    with pytest.raises(UsageError, match=f"different settings .*{key} .* there, .* requested"):
        extract(source, tmp_path / "out", settings=settings)


def test_frames_of_unknown_origin_are_rejected(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "frames" / "3").mkdir(parents=True)
    with pytest.raises(UsageError, match="frames/3 holds frames of unknown origin"):
        extract(source, tmp_path / "out")


def test_a_small_disk_is_reported_after_a_few_videos(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(extraction_run, "free_bytes", lambda _: 1_000_000)
    with pytest.raises(UnavailableError, match=r"need about \S+ MB more, estimated from 3 videos"):
        extract(source, out)
    made = len(list((out / "frames").iterdir()))
    assert made == 3
    monkeypatch.undo()
    results = extract(source, out)
    assert len(results) == VIDEOS


def test_the_estimate_is_close_to_the_actual_size(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    extract(source, out)
    estimated = capsys.readouterr().err.split("About ")[1].split(" of frames")[0]
    number, unit = estimated.split()
    estimate = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
    blocks = sum(-(-path.stat().st_size // 4096) * 4096 for path in out.rglob("*.jpg"))
    assert estimate == pytest.approx(blocks * (VIDEOS - 3) / VIDEOS, rel=0.2)
