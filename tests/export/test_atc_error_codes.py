"""ATC's error codes, in the texts of new and old releases: found, cleaned, explained."""

from __future__ import annotations

import re

import pytest
from atc_texts import TEXTS

from export.atc.error_codes import explain, find_errors


@pytest.mark.parametrize(("line", "word"), TEXTS)
def test_each_text_is_explained(line: str, word: str) -> None:
    (error,) = find_errors(f"ATC run failed, x\n{line}\n        Solution: see the manual.\n")
    assert str(error) == line
    (paragraph,) = explain(line)
    assert paragraph.startswith(line)
    assert word in paragraph.removeprefix(line)
    assert "\n" not in paragraph


@pytest.mark.parametrize(
    "prefix", ["", "[PID: 36056] 2025-02-15-11:55:07.024.243 ", "2024-08-19-10:11:12.345.678 ", "[PID: 1] "]
)
def test_process_id_and_time_are_removed_from_the_text(prefix: str) -> None:
    (error,) = find_errors(f"E19010: {prefix}No parser is registered for Op [a, optype [b]].")
    assert (error.code, error.text) == ("E19010", "No parser is registered for Op [a, optype [b]].")


def test_errors_are_distinct_in_order_and_without_warnings() -> None:
    output = "W11001: slow\nEZ3003: b\nnot E10001: in the middle\nE10041: a\nEZ3003: b\nEASY: no\nE1: no\n"
    assert [error.code for error in find_errors(output)] == ["EZ3003", "E10041"]


def test_an_internal_error_that_follows_another_is_not_explained() -> None:
    paragraphs = explain("EZ3003: No supported Ops kernel\nEZ9999: Inner Error!\nE19999: Inner Error!\n")
    assert [paragraph[:6] for paragraph in paragraphs] == ["EZ3003"]
    assert [re.match(r"\w+", paragraph).group() for paragraph in explain("EZ9999: Inner Error!")] == [
        "EZ9999"
    ]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("BrokenPipeError: [Errno 32] Broken pipe", "MAX_COMPILE_CORE_NUMBER=1"),
        ("atc: error while loading shared libraries: libge_runner.so", "set_env.sh"),
        ("ModuleNotFoundError: No module named 'decorator'", "decorator"),
        ("OSError: No space left on device", "disk"),
    ],
)
def test_known_problems_without_a_code(output: str, word: str) -> None:
    (paragraph,) = explain(output)
    assert word in paragraph


def test_unrecognised_output_gives_no_explanation() -> None:
    assert explain("ATC run failed, Please check the detail log") == ()


def test_long_lists_of_errors_are_truncated() -> None:
    assert len(explain("\n".join(f"E10041: Failed to load {number}" for number in range(1000)))) == 5
    assert len(find_errors("E10041: " + "x" * 100_000)[0].text) <= 400
