"""All benchmarks in one run, with a stub interpreter in place of the commands."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, main

# Targets met and missed; a command that fails.
STUB = f"""#!{sys.executable}
import json, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from benchmarks.measuring.report import Report, Table, Target, write_report
words = sys.argv[1:]
name = words[1].split(".")[-1]
output = Path(words[words.index("--output_dir") + 1])
with (output / "calls.jsonl").open("a") as stream:
    stream.write(json.dumps(words) + "\\n")
print("the report of " + name)
print("progress of " + name, file=sys.stderr)
if name == "inference":
    sys.exit("error: no openvino|here")
target = Target(name + " is fast", 2.0, 3.0 if name == "roofline" else 1.0)
table = Table("Times", ("variant", "s"), [("a", 0.5)])
write_report(Report(name, "How fast?", [table], [target], {{"processor": "a chip"}}), output)
sys.exit(0 if target.met else 1)
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    (tmp_path / "out").mkdir()
    return ["--output_dir", str(tmp_path / "out"), "--results", str(tmp_path / "RESULTS.md")]


def calls(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "calls.jsonl").read_text().splitlines()
    return {words[1]: words[4:] for words in map(json.loads, lines)}


def test_the_other_benchmarks_run_after_a_failed_one(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--frames", "a", "b", "--modelzoo_python", "python3.7"]) == 1
    modules = [f"benchmarks.{'surgery.passes' if name == 'passes' else name}" for name in NAMES]
    assert list(calls(tmp_path / "out")) == modules
    assert all(find_spec(module) for module in modules)
    assert calls(tmp_path / "out")["benchmarks.packing"] == ["--frames", "a", "b"]
    assert calls(tmp_path / "out")["benchmarks.scoring"] == ["--modelzoo_python", "python3.7"]
    assert calls(tmp_path / "out")["benchmarks.extraction"] == []
    printed = capsys.readouterr()
    assert "progress of scoring" in printed.err and "report of" not in printed.out
    *rows, status = printed.out.splitlines()[2:]
    assert status == "FAILED"
    assert "| roofline | roofline is fast | 2 | ≥ 3 | FAILED |" in rows
    assert sum("PASSED" in row for row in rows) == len(NAMES) - 2
    text = (tmp_path / "RESULTS.md").read_text()
    assert all(row in text for row in rows)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Targets", *(f"## {name}" for name in NAMES)]
    assert "the command ended with 1" in text and "no openvino|here" in text
    assert text.count("### Times") == len(NAMES) - 1


def test_earlier_reports_are_included(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--only", "scoring", "packing"]) == 0
    first = (tmp_path / "RESULTS.md").read_text()
    assert list(calls(tmp_path / "out")) == ["benchmarks.scoring"]
    assert "Not measured: --frames is required." in first and first.count("Not run.") == len(NAMES) - 2
    assert main([*words, "--only", "extraction"]) == 0
    second = (tmp_path / "RESULTS.md").read_text()
    assert "scoring is fast" in second and "extraction is fast" in second


def test_an_earlier_report_is_removed_when_the_command_fails(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "inference.md").write_text("# inference\n\nlast year's\n")
    assert main([*words, "--only", "inference"]) == 1
    assert "last year's" not in (tmp_path / "RESULTS.md").read_text()


def test_targets_of_an_older_version_are_skipped(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "out" / "scoring.json").write_text('{"schema": 1, "bars": [{"found": 1}]}')
    (tmp_path / "out" / "scoring.md").write_text("# scoring\n\nold\n")
    assert main([*words, "--only", "extraction"]) == 0
    assert "| scoring |" not in (tmp_path / "RESULTS.md").read_text()
