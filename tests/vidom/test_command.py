from __future__ import annotations

import os
import pty
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
    if kind.startswith("advice"): raise BadDataError("x" * int(kind[6:]) + " Use --on_bad skip to go on.")
    if kind == "judged": raise CheckFailedError("too low")
    if kind == "interrupt": raise KeyboardInterrupt
    if kind == "full": open("/dev/full", "w").write("x" * 100000)
    if kind == "bug": raise RuntimeError("ours \x1b[2J")
    if kind == "control": raise BadDataError("a \x1b[2J\u202e name" + "x" * 100_000)
    if kind == "memory": raise MemoryError
    if kind == "torch": raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
    if kind == "files":
        opened = [open("/dev/null") for _ in range(100_000)]
    if kind == "large":
        import resource, tempfile
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with tempfile.TemporaryFile() as file: file.write(b"x" * 100_000)
    if kind == "long": open("x" * 300)
    if kind == "worker":
        import multiprocessing
        print("lost", file=sys.stderr)
        multiprocessing.get_context("spawn").Process(target=int).start()
        kind = 0
    if kind == "letters":
        print(chr(0xDCE9), chr(0x2603))
        kind = 0
    if kind == "print":
        print("result")
        kind = 0
    return int(kind)
run(main)
"""


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("bad", 4),
        ("judged", 1),
        ("interrupt", 130),
        ("full", 3),
        ("memory", 3),
        ("torch", 3),
        ("files", 3),
        ("large", 3),
        ("long", 4),
        ("0", 0),
        ("1", 1),
    ],
)
def test_each_kind_of_ending_has_its_exit_code_and_no_traceback(kind: str, code: int):
    done = call(kind)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_user_error_is_one_paragraph_whose_table_rows_stay_whole():
    lines = call("bad").stderr.splitlines()
    assert lines[0] == "error: the file x is wrong"
    assert lines[1] == "  a table row" * 9 + ", always"


def test_our_own_fault_keeps_its_traceback_and_has_an_exit_code_of_its_own():
    done = call("bug")
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "\x1b" not in done.stderr


def test_without_stderr_workers_start():
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -c "$1" worker 2>&-', sys.executable, PROGRAM], check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii"])
def test_letters_that_the_terminal_lacks_are_no_reason_to_fail(encoding: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "letters"], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
    )  # fmt: skip
    assert done.stdout.startswith(b"\\udce9 ") and b"Traceback" not in done.stderr


def test_an_option_stands_on_one_line_with_its_value():
    texts = [call(f"advice{length}").stderr for length in range(60, 85, 4)]
    assert all("--on_bad skip" in text for text in texts)
    assert len({text.count("\n") for text in texts}) == 2


def test_foreign_text_neither_commands_the_terminal_nor_fills_it():
    text = call("control").stderr
    assert r"a \x1b[2J\u202e" in text
    assert len(text) < 5000


@pytest.mark.parametrize(
    ("streams", "kind", "code"),
    [
        (">&-", "print", 3),
        (">/dev/full", "print", 3),
        ("2>&-", "bad", 4),
        ("2>/dev/full", "bad", 4),
        ("2>/dev/full", "bug", 70),
        (">&- 2>&-", "bad", 4),
        ("<&- >&- 2>&-", "0", 0),
    ],
)
def test_a_closed_or_full_stream_changes_no_exit_code_but_that_of_a_lost_result(
    streams: str, kind: str, code: int
):
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {kind} {streams}', sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


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


TALK = """
import logging, sys
from vidom.command import Parser, run
def main(argv=None):
    Parser(description="x").parse_args(argv)
    log = logging.getLogger("export.somewhere")
    for level in ("debug", "info", "warning"): getattr(log, level)(f"a {level} line")
    logging.getLogger("a.library").info("chatter")
    logging.getLogger("a.library").warning("trouble")
    print("the result")
run(main)
"""


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], ["a info line", "warning: a warning line", "warning: trouble"]),
        (["-q"], ["warning: a warning line", "warning: trouble"]),
        (["-v"], ["debug: a debug line", "a info line", "warning: a warning line", "warning: trouble"]),
    ],
)
def test_verbose_and_quiet_choose_what_is_logged_and_stdout_is_the_result(words: list[str], lines: list[str]):
    done = subprocess.run([sys.executable, "-c", TALK, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "the result\n"
    assert done.stderr.splitlines() == lines


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_a_terminal_is_coloured_unless_no_color_is_set(no_color: str | None, coloured: bool):
    reader, terminal = pty.openpty()
    environ = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    if no_color is not None:
        environ["NO_COLOR"] = no_color
    subprocess.run([sys.executable, "-c", PROGRAM, "judged"], stderr=terminal, env=environ, check=False)
    os.close(terminal)
    written = os.read(reader, 4096).decode()
    os.close(reader)
    assert "too low" in written
    assert ("\x1b[" in written) is coloured


def test_a_file_is_never_coloured():
    assert "\x1b[" not in call("judged").stderr
