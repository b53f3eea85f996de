"""Compile with a stub of ATC that fails in every documented way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from atc_texts import TEXTS
from stub_atc import StubAtc, alive, arguments, build_folder

from export.to_om import main
from vidom.errors import ExternalToolError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubAtc:
    stub = StubAtc(tmp_path / "stub")
    stub.on_path(monkeypatch)
    return stub


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return build_folder(tmp_path)


def failure(build: Path, *more: str) -> str:
    with pytest.raises(ExternalToolError) as raised:
        main(arguments(build, *more))
    assert not (build / "tsm_bs8.om").exists()
    return str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(("line", "word"), TEXTS)
def test_an_error_code_is_explained_and_leftover_files_are_listed(
    atc: StubAtc, build: Path, line: str, word: str
) -> None:
    atc.behave("reject", [line, "        Possible Cause: x", "        TraceBack (most recent call last):"])
    message = failure(build)
    assert "failed with exit code 255" in message
    assert line.split(":", maxsplit=1)[0] in message
    assert word in message
    assert f"{build / 'atc.log'}" in message
    for leftover in ("tsm_bs8.om", "fusion_result.json", "kernel_meta/"):
        assert leftover in message
    assert "No NPU was used" in message
    assert line in (build / "atc.log").read_text()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("no model", "is missing"),
        ("empty", "empty"),
        ("no banner", "did not report"),
        ("code only", "failed with exit code 1"),
        ("killed", "signal 9"),
    ],
)
def test_a_single_sign_of_success_is_not_enough(
    atc: StubAtc, build: Path, behaviour: str, words: str
) -> None:
    atc.behave(behaviour)
    assert words in failure(build)


def test_a_model_of_an_earlier_build_is_not_accepted(atc: StubAtc, build: Path) -> None:
    main(arguments(build))
    (build / "tsm_bs8.atc" / "tsm_bs8_linux_aarch64.om").write_bytes(b"earlier")
    atc.behave("no model")
    assert "is missing" in failure(build, "--output_type", "FP16")


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["hang", "deaf"])
def test_the_time_limit_stops_atc_and_its_workers(
    atc: StubAtc, build: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidom.system.process_group._GRACE", 0.5)
    atc.behave(behaviour)
    assert "--time_limit" in failure(build, "--time_limit", "1.5")
    assert not alive(atc.pid)
    if behaviour == "hang":
        assert not alive(atc.worker)
    assert "compiling" in (build / "atc.log").read_text()


@pytest.mark.slow
def test_a_worker_that_outlives_atc_is_stopped(atc: StubAtc, build: Path) -> None:
    atc.behave("orphan")
    main(arguments(build))
    assert not alive(atc.worker)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_atc(atc: StubAtc, build: Path, number: signal.Signals) -> None:
    atc.behave("hang")
    words: Sequence[str] = [sys.executable, str(REPOSITORY / "export" / "to_om.py"), *arguments(build)]
    # A shell starts background jobs, and so perhaps these tests, with SIGINT ignored.
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=restore
    )
    deadline = time.monotonic() + 60
    while not (atc.folder / "worker.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert not alive(atc.pid)
    assert not alive(atc.worker)


def test_a_program_that_cannot_be_started(atc: StubAtc, build: Path) -> None:
    atc.program.write_bytes(b"\x7fELF of another processor")
    assert "could not be started" in failure(build)
