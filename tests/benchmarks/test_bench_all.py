"""All benchmarks in one go, with a stand-in for the interpreter that answers for the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, main

# Bars met, missed; a command that dies; one that says what it lacks.
STAND_IN = f"""#!{sys.executable}
import json, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from benchmarks.measuring.report import Target, Report, Table, write_report
words = sys.argv[1:]
name = words[1].removeprefix("benchmarks.")
output = Path(words[words.index("--output_dir") + 1])
with (output / "calls.jsonl").open("a") as stream:
    stream.write(json.dumps(words) + "\\n")
print("the report of " + name)
print("progress of " + name, file=sys.stderr)
if name == "inference":
    sys.exit("error: no openvino|here")
bar = Target(name + " is fast", 2.0, 3.0 if name == "roofline" else 1.0)
table = Table("Times", ("variant", "s"), [("a", 0.5)])
write_report(Report(name, "How fast?", [table], [bar], {{"processor": "a chip"}}), output)
sys.exit(0 if target.met else 1)
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    (tmp_path / "out").mkdir()
    return ["--output_dir", str(tmp_path / "out"), "--results", str(tmp_path / "RESULTS.md")]


def calls(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "calls.jsonl").read_text().splitlines()
    return {words[1]: words[4:] for words in map(json.loads, lines)}


def test_a_command_that_fails_or_misses_stops_no_other(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--frames", "a", "b", "--modelzoo_python", "python3.7"]) == 1
    assert list(calls(tmp_path / "out")) == [f"benchmarks.{name}" for name in NAMES]
    assert calls(tmp_path / "out")["benchmarks.packing"] == ["--frames", "a", "b"]
    assert calls(tmp_path / "out")["benchmarks.scoring"] == ["--modelzoo_python", "python3.7"]
    assert calls(tmp_path / "out")["benchmarks.extraction"] == []
    printed = capsys.readouterr()
    assert "progress of scoring" in printed.err and "report of" not in printed.out
    *rows, verdict = printed.out.splitlines()[2:]
    assert verdict == "FAILED"
    assert "| roofline | roofline is fast | 2 | ≥ 3 | FAILED |" in rows
    assert sum("PASSED" in row for row in rows) == len(NAMES) - 2
    text = (tmp_path / "RESULTS.md").read_text()
    assert all(row in text for row in rows)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## All bars", *(f"## {name}" for name in NAMES)]
    assert "the command ended with 1" in text and "no openvino|here" in text
    assert text.count("### Times") == len(NAMES) - 1


def test_those_not_run_are_told_from_before(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--only", "scoring", "packing"]) == 0
    first = (tmp_path / "RESULTS.md").read_text()
    assert list(calls(tmp_path / "out")) == ["benchmarks.scoring"]
    assert "Not measured: it needs --frames." in first and first.count("Not run.") == len(NAMES) - 2
    assert main([*words, "--only", "extraction"]) == 0
    second = (tmp_path / "RESULTS.md").read_text()
    assert "scoring is fast" in second and "extraction is fast" in second


def test_a_report_from_before_is_not_told_for_a_command_that_died(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "inference.md").write_text("# inference\n\nlast year's\n")
    assert main([*words, "--only", "inference"]) == 1
    assert "last year's" not in (tmp_path / "RESULTS.md").read_text()
