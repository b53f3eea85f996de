"""The measuring tools: interleaving, settings, memory and the report."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks.measuring.interleaved import interleave, interleave_opened
from benchmarks.measuring.memory import peak_rss, peak_rss_of
from benchmarks.measuring.report import Report, Table, Target, markdown_table, write_report
from benchmarks.measuring.settings import FAIR_SETTINGS, machine_state
from vidom.errors import ExternalToolError, UnavailableError, UsageError

ROOT = Path(__file__).parents[2]


def test_variants_are_interleaved_and_the_fastest_counted_run_is_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, order = 0.0, []
    seconds = {"a": iter([1, 5, 4]), "b": iter([9, 2, 3])}

    def variant(name: str) -> None:
        nonlocal now
        order.append(name)
        now += next(seconds[name])

    monkeypatch.setattr("time.perf_counter", lambda: now)
    # The first run of `a`, faster than all others, is a warm-up.
    assert interleave({"a": lambda: variant("a"), "b": lambda: variant("b")}, rounds=2) == {"a": 4, "b": 2}
    assert order == ["a", "b"] * 3
    with pytest.raises(UsageError, match="--rounds"):
        interleave({}, rounds=0)


def test_opened_variants_are_never_open_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, seen = 0.0, []
    seconds = {"a": iter([1, 5, 4, 0.5, 6, 7]), "b": iter([9, 2, 3, 9, 8, 2.5])}

    @contextmanager
    def opened(name: str) -> Iterator[Callable[[], None]]:
        nonlocal now
        now += 100  # opening is not timed

        def work() -> None:
            nonlocal now
            now += next(seconds[name])
            seen.append(name)

        seen.append(f"open {name}")
        yield work
        seen.append(f"close {name}")

    monkeypatch.setattr("time.perf_counter", lambda: now)
    variants = {name: partial(opened, name) for name in "ab"}
    assert interleave_opened(variants, rounds=2) == {"a": 4, "b": 2}
    rounds = [[f"open {name}", name, name, name, f"close {name}"] for name in "abab"]
    assert seen == [word for part in rounds for word in part]
    seconds["a"] = iter([0.25] * 99)
    seen.clear()
    interleave_opened({"a": variants["a"]}, rounds=1)
    assert seen.count("a") == 5  # the first is not counted
    with pytest.raises(UsageError, match="--rounds"):
        interleave_opened(variants, rounds=0)


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [
        (2.0, True, True),
        (1.99, True, False),
        (2.0, False, True),
        (2.01, False, False),
        (math.nan, True, False),
    ],
)
def test_a_target_is_met_at_its_number_and_beyond(measured: float, at_least: bool, met: bool) -> None:
    target = Target("speed", measured, 2.0, at_least=at_least)
    assert target.met is met
    assert target.line.startswith("PASSED speed" if met else "FAILED speed")
    assert f"required {'≥' if at_least else '≤'} 2" in target.line


def report_with(*targets: Target) -> Report:
    table = Table("Times", ("variant", "s", "n"), [("a|b", 1.23456, 10), ("none", None, 123456)], "Seconds.")
    return Report("speed", "How fast?", [table], targets, {"processor": "a chip"})


def test_a_report_is_markdown_json_and_a_figure(tmp_path: Path) -> None:
    report = report_with(Target("ratio", 2.5, 2.0), Target("memory", 3.0, 2.0, at_least=False))
    write_report(report, tmp_path, plot=lambda figure: figure.subplots().plot([1, 2]))
    text = (tmp_path / "speed.md").read_text()
    assert "| a/b | 1.235 | 10 |" in text and "| none | – | 123456 |" in text
    assert text.index("PASSED ratio") < text.index("FAILED memory") < text.index("processor a chip")
    document = json.loads((tmp_path / "speed.json").read_text())
    assert document["tables"][0]["rows"] == [["a|b", 1.23456, 10], ["none", None, 123456]]
    assert [target["met"] for target in document["targets"]] == [True, False]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert report.exit_code == 1 and report_with(Target("ratio", 2.5, 2.0)).exit_code == 0


def test_nan_is_null_in_json_and_fails(tmp_path: Path) -> None:
    write_report(report_with(Target("ratio", math.nan, 2.0)), tmp_path)
    (target,) = json.loads((tmp_path / "speed.json").read_text())["targets"]
    assert target["measured"] is None and target["met"] is False
    assert "FAILED ratio: measured nan" in (tmp_path / "speed.md").read_text()


def test_without_matplotlib_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measuring.report.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="pip install matplotlib"):
        write_report(report_with(), tmp_path, plot=lambda figure: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md"]


def test_a_row_with_a_missing_cell_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        markdown_table(("a", "b"), [(1,)])


def test_a_command_restarts_under_the_settings_and_keeps_those_that_are_set(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import json, os, sys\n"
        "from benchmarks.measuring.settings import under_fair_settings\n"
        "print('started')\n"
        "sys.stdout.flush()\n"
        "under_fair_settings()\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in FAIR_SETTINGS}
    environment |= {"OMP_WAIT_POLICY": "ACTIVE", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), "--rounds", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *starts, found = done.stdout.splitlines()
    words, settings = json.loads(found)
    assert starts == ["started"] * 2 and words == ["--rounds", "3"]
    assert {name: settings[name] for name in FAIR_SETTINGS} == {**FAIR_SETTINGS, "OMP_WAIT_POLICY": "ACTIVE"}


def test_the_machine_state_has_no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    state = machine_state()
    assert state["usable cores"] == len(os.sched_getaffinity(0))
    assert (state["OMP_WAIT_POLICY"], state["MALLOC_TOP_PAD_"]) == ("PASSIVE", "not set")
    assert state["numpy"] and state["torch"] and state["onnxruntime"]


def take(megabytes: int, mode: str) -> None:
    if mode == "fails":
        raise ValueError("failed on purpose")
    bytearray(megabytes << 20)  # zeroed, so touched


def test_memory_is_that_of_the_work_and_not_of_the_caller() -> None:
    ballast = b"x" * (300 << 20)
    command = [sys.executable, "-c", "bytes([1]) * (100 << 20)"]
    assert 100 << 20 < peak_rss(command) < 180 << 20
    assert len(ballast) == 300 << 20
    with pytest.raises(ExternalToolError, match="no such thing"):
        peak_rss([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.slow
def test_a_function_is_called_in_a_separate_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(ROOT)]))
    small, large = (peak_rss_of(take, size, "works") for size in (1, 101))
    assert large - small == pytest.approx(100 << 20, rel=0.15)
    with pytest.raises(ExternalToolError, match="failed on purpose"):
        peak_rss_of(take, 1, "fails")
