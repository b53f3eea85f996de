from __future__ import annotations

from pathlib import Path

import pytest

from vidom.errors import ExternalToolError
from vidom.system.external_query import Answer, ask


def test_a_program_that_fills_both_streams_does_not_block() -> None:
    body = "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; exit 7"
    answer = ask(["/bin/sh", "-c", body], seconds=20)
    assert (answer.code, set(answer.output), len(answer.output)) == (7, {"x"}, 300000)
    assert answer.last_words() == "…" + "y" * 400


def test_a_file_that_is_no_program_is_an_outside_failure(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"\x00\x01")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(ExternalToolError, match="could not be started"):
        ask([str(tmp_path / "tool")], seconds=5)


def test_a_child_that_keeps_the_streams_open_does_not_outlast_the_limit() -> None:
    with pytest.raises(ExternalToolError, match="had not ended after 0.5 s"):
        ask(["/bin/sh", "-c", "sleep 600 & exit 0"], seconds=0.5)


def test_stdin_is_empty_and_the_environment_is_the_one_given() -> None:
    answer = ask(["/bin/sh", "-c", "cat; echo $GIVEN$HOME"], seconds=20, environ={"GIVEN": "only"})
    assert (answer.code, answer.output) == (0, "only\n")


def test_last_words_are_one_printable_line_of_stderr_before_stdout() -> None:
    assert Answer(1, "out", " a\n\x1b[31mb ").last_words() == "a [31mb"
    assert Answer(1, "out\n", "").last_words() == "out"
