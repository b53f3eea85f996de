"""Result folders of the fuzzing campaign: one paragraph of bad data, whatever is in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from postprocess.score import ScoreOptions, score
from vidom.errors import BadDataError
from vidom.formats.engine_outputs import read_output, read_summary

ROOT = Path(__file__).parents[2]
N = 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("score_json_int5000", "is not valid JSON"),
        ("score_npy_badutf", "header is damaged"),
        ("score_out_longname", "is not a summary"),
    ],
)
def test_result_folders_are_refused(name: str, words: str, fixtures: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fixtures / "attacks" / name, tmp_path / "copy")
    with pytest.raises(BadDataError, match=words) as refusal:
        score(ScoreOptions(result_path=folder / "res_summary.json", info_path=folder / "x.info"))
    assert len(str(refusal.value)) < 1000


def test_summaries_are_refused(fixtures: Path) -> None:
    paths = sorted((fixtures / "attacks").glob("summary_json_*"))
    assert len(paths) == 2
    for path in paths:
        with pytest.raises(BadDataError, match="is not valid JSON"):
            read_summary(path)


@pytest.mark.parametrize(
    "path",
    ["a\0b_0.npy", "\ud800_0.npy", "x" * 256, "é" * 128, "d/" * 2048 + "0_0.npy", "\x1b[31m" + "a" * 300],
)
def test_paths_that_no_file_has_are_refused(path: str, tmp_path: Path) -> None:
    for infiles, outfiles in (([path], ["o/0_0.npy"]), (["0.bin"], [path])):
        document = {"filesinfo": {"0": {"infiles": infiles, "outfiles": outfiles}}}
        (tmp_path / "r_summary.json").write_text(json.dumps(document))
        with pytest.raises(BadDataError, match="is not a summary") as refusal:
            read_summary(tmp_path / "r_summary.json")
        assert len(str(refusal.value)) < 600 and "\x1b" not in str(refusal.value)


def results(folder: Path) -> Path:
    """Write a result folder of N samples and its list; return its summary."""
    (folder / "r").mkdir()
    files = {}
    for index, row in enumerate(np.eye(N, dtype=np.float32)):
        np.save(folder / "r" / f"{index}_0.npy", row[None])
        files[str(index)] = {"infiles": [f"in/{index}.bin"], "outfiles": [f"./r/{index}_0.npy"]}
    (folder / "r_summary.json").write_text(json.dumps({"filesinfo": files}))
    (folder / "x.info").write_text("".join(f"{index} {index}\n" for index in range(N)))
    return folder / "r_summary.json"


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, to_zeros, to_itself, Path.mkdir])
@pytest.mark.parametrize("place", ["r_summary.json", "x.info", "labels.txt", "r/1_0.npy"])
def test_what_is_no_file_is_refused_at_once(
    make: Callable[[Path], object], place: str, tmp_path: Path
) -> None:
    summary = results(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    options = ScoreOptions(result_path=summary, info_path=tmp_path / "x.info", labels=tmp_path / "labels.txt")
    assert score(options).metrics.top1.correct == N
    replace(tmp_path / place, make)
    with pytest.raises(BadDataError):
        score(options)


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".bin"])
@pytest.mark.parametrize("make", [os.mkfifo, to_zeros, to_itself, Path.mkdir])
def test_outputs_that_are_no_files_are_refused_at_once(
    suffix: str, make: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / f"0_0{suffix}"
    make(path)
    with pytest.raises(BadDataError):
        read_output(path, classes=3)


def test_a_label_line_of_a_megabyte_is_shortened(tmp_path: Path) -> None:
    summary = results(tmp_path)
    (tmp_path / "x.info").write_text("0 0\n" + "\x1b[2J" * 250_000)
    with pytest.raises(BadDataError, match=r"Line 2 of .*x\.info") as refusal:
        score(ScoreOptions(result_path=summary, info_path=tmp_path / "x.info"))
    assert len(str(refusal.value)) < 600 and "\x1b" not in str(refusal.value)


def test_numbers_of_many_digits_in_a_list_are_refused(tmp_path: Path) -> None:
    summary = results(tmp_path)
    (tmp_path / "x.info").write_text(f"0 0\n1 {'9' * 5000}\n")
    with pytest.raises(BadDataError, match="Line 2 of"):
        score(ScoreOptions(result_path=summary, info_path=tmp_path / "x.info"))


def test_texts_take_memory_by_the_block(tmp_path: Path) -> None:
    """All words of 12 MB at once would be 600 MB of Python objects."""
    path = tmp_path / "0_0.txt"
    path.write_bytes(b"1 " * 2 + b"\n" + b"0 1 \n" * 2_400_000)
    code = (
        "import resource, sys; from vidom.formats.engine_outputs import read_output\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(read_output(sys.argv[1]).shape)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    shape, kilobytes = done.stdout.splitlines()
    # The array takes 38 MB, twice while its blocks are joined, and the text 12 MB.
    assert shape == "(2400001, 2)" and int(kilobytes) < 200_000


def test_rows_of_a_million_scores_are_no_classes(tmp_path: Path) -> None:
    summary = results(tmp_path)
    np.save(tmp_path / "r" / "0_0.npy", np.zeros((1, 1_000_000), np.float32))
    with pytest.raises(BadDataError, match="at most 10000 classes"):
        score(ScoreOptions(result_path=summary, info_path=tmp_path / "x.info"))


def test_a_list_of_gigabytes_is_refused(tmp_path: Path) -> None:
    summary = results(tmp_path)
    for name in ("x.info", "labels.txt"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 34)
        with pytest.raises(BadDataError, match=rf"{name} has more than the"):
            score(
                ScoreOptions(
                    result_path=summary, info_path=tmp_path / "x.info", labels=tmp_path / "labels.txt"
                )
            )
        (tmp_path / name).write_text("".join(f"{index} {index}\n" for index in range(N)))


@pytest.mark.parametrize("row", [b"0.5\n", b"0.500000 \n"])
def test_texts_of_many_rows_are_refused(row: bytes, tmp_path: Path) -> None:
    path = tmp_path / "0_0.txt"
    path.write_bytes(row * 20_000_000)
    with pytest.raises(BadDataError, match="more than the 67108864 bytes that are read"):
        read_output(path)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0_0.txt"
    path.write_bytes(b"1 " * 600_000)
    with pytest.raises(BadDataError, match="a line of more than"):
        read_output(path)


def command(folder: Path, redirection: str = "", limits: str = "") -> subprocess.CompletedProcess[str]:
    words = f"{limits} exec {sys.executable} -m postprocess.score --result_path r --info_path x.info {redirection}"
    return subprocess.run(
        ["bash", "-c", words], cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 3), ("2>&-", 0), (">&- 2>&-", 3), ("2>/dev/full", 0), (">/dev/full", 3), ("<&-", 0)],
)
def test_streams_that_are_closed_or_full_change_no_result(
    redirection: str, code: int, tmp_path: Path
) -> None:
    results(tmp_path)
    done = command(tmp_path, redirection)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert json.loads((tmp_path / "r_metrics.json").read_text())["top1"]["correct"] == N
    (tmp_path / "x.info").write_text("no list")
    refused = command(tmp_path, redirection)
    assert (refused.returncode, "Traceback" in refused.stderr) == (4, False), refused.stderr


@pytest.mark.slow
def test_a_limit_on_files_is_named(tmp_path: Path) -> None:
    results(tmp_path)
    done = command(tmp_path, limits="ulimit -f 0;")
    assert done.returncode == 3, done.stderr
    assert "lift it (ulimit -f)" in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not (tmp_path / "r_metrics.json").exists()
