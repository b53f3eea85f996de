from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from vidom.command import Parser

PROGRAM = """
import sys
from vidom.command import Parser, run
from vidom.errors import BadDataError, CheckFailedError
def main(argv=None):
    kind = sys.argv[1]
    if kind == "bad": raise BadDataError("the file x is wrong\\n" + "  a table row" * 9 + ", always")
    if kind == "judged": raise CheckFailedError("too low")
    if kind == "interrupt": raise KeyboardInterrupt
    if kind == "full": open("/dev/full", "w").write("x" * 100000)
    if kind == "bug": raise RuntimeError("ours")
    return int(kind)
run(main)
"""


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("kind", "code"), [("bad", 4), ("judged", 1), ("interrupt", 130), ("full", 3), ("0", 0), ("1", 1)]
)
def test_each_kind_of_ending_has_its_exit_code_and_no_traceback(kind: str, code: int):
    done = call(kind)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_user_error_is_one_paragraph_whose_table_rows_stay_whole():
    lines = call("bad").stderr.splitlines()
    assert lines[0] == "error: the file x is wrong"
    assert lines[1] == "  a table row" * 9 + ", always"


def test_our_own_fault_keeps_its_traceback():
    assert "Traceback" in call("bug").stderr


def parser() -> Parser:
    made = Parser(description="x")
    made.add_argument("--batch_size", "-bs", type=int)
    made.add_argument("-m1")
    made.add_argument("words", nargs="*")
    return made


@pytest.mark.parametrize(
    "words", [["--batch_size", "3"], ["--batch-size", "3"], ["--batch-size=3"], ["-bs", "3"]]
)
def test_both_spellings_of_an_option_are_the_same(words: Sequence[str]):
    assert parser().parse_args(words).batch_size == 3


def test_values_keep_their_dashes_and_prefixes_are_not_guessed(capsys: pytest.CaptureFixture[str]):
    assert parser().parse_args(["-m1", "a-b", "c-d"]).m1 == "a-b"
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(["--batch", "3"])
    assert exit_.value.code == 2
    assert "--batch" in capsys.readouterr().err
