from __future__ import annotations

import argparse
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from vidom.options import add_options, group, nested, option, options_from, read_options


class Pair:
    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--left", type=int, required=True)
        parser.add_argument("--right", type=int, default=argparse.SUPPRESS)

    def build(self, given: dict[str, Any]) -> tuple[int, int]:
        return given.pop("left"), given.pop("right", 7)


@dataclass(frozen=True, kw_only=True)
class Some:
    """Do something."""

    model: Path = option("the model", "-m")
    pair: tuple[int, int] = group(Pair())
    engine: Literal["cpu", "npu"] = option("who runs it", default="cpu")
    loop: int = option("repeats, 100 % of them", default=3)
    limit: int | None = option("at most so many", default=None)
    names: tuple[str, ...] = option("some names", default=())
    rounds: tuple[int, ...] = option("some numbers", default=(1, 2))
    batches: tuple[int, ...] = option(
        "comma-separated", default=(), parse=lambda text: tuple(map(int, text.split(",")))
    )
    entries: tuple[str, ...] = option("one entry each time", default=(), append=True)
    steps: tuple[int, ...] = option(
        "any number each time", default=(), extend=True, parse=lambda text: int(text, 16)
    )
    json: bool = option("print JSON", default=False)
    size: int = option("bytes", default=0, parse=lambda text: 1000 * int(text.removesuffix("kB")))
    private: int = 5


@dataclass(frozen=True)
class Inner:
    depth: int = option("levels", default=1)


@dataclass(frozen=True)
class Outer:
    """Nest."""

    inner: Inner = nested(Inner)
    width: int = option("columns", default=2)


def read(*words: str) -> Some:
    return read_options(Some, words)


def test_no_values_replace_a_default_that_is_not_empty():
    assert read("--model", "a.onnx", "--left", "1").rounds == (1, 2)
    assert read("--model", "a.onnx", "--left", "1", "--rounds").rounds == ()
    with pytest.raises(SystemExit):
        read("--model", "a.onnx", "--left", "1", "--names")


def test_an_extended_option_keeps_all_values_of_all_its_occurrences():
    given = ("--model", "a.onnx", "--left", "1")
    assert read(*given).steps == ()
    assert read(*given, "--steps", "a", "b", "--steps", "10").steps == (10, 11, 16)


def test_what_is_not_given_keeps_the_default_of_its_field():
    assert read("--model", "a.onnx", "--left", "1") == Some(model=Path("a.onnx"), pair=(1, 7))


def test_every_kind_of_field_is_read_by_its_type():
    words = "-m a --left 1 --right 2 --engine npu --loop 4 --limit 9 --names x y --batches 1,4 --entries p --entries q"
    words += " --json --size 2kB"
    assert read(*words.split()) == Some(
        model=Path("a"),
        pair=(1, 2),
        engine="npu",
        loop=4,
        limit=9,
        names=("x", "y"),
        batches=(1, 4),
        entries=("p", "q"),
        json=True,
        size=2000,
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--left", "1"], "--model"),
        (["-m", "a"], "--left"),
        (["-m", "a", "--left", "1", "--engine", "tpu"], "'cpu', 'npu'"),
        (["-m", "a", "--left", "1", "--loop", "x"], "--loop"),
        (["-m", "a", "--left", "1", "--private", "6"], "--private"),
        (["-m", "a", "--left", "1", "--size", "big"], "--size"),
    ],
)
def test_a_wrong_option_ends_with_2_and_its_name(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        read(*words)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_help_shows_description_and_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Do something." in text
    assert "repeats, 100 % of them (default: 3)" in text
    assert "at most so many" in text
    assert "(default: None)" not in text


def test_options_of_several_classes_share_a_parser():
    @dataclass(frozen=True)
    class Other:
        depth: int = option("levels", default=1)

    parser = argparse.ArgumentParser()
    add_options(parser, Some, leave_out=["loop"])
    parser.add_argument("--loop", type=int, default=8)
    parser.add_argument("--depth", type=int, default=argparse.SUPPRESS)
    given = vars(parser.parse_args(["-m", "a", "--left", "1"]))
    assert options_from(Other, given) == Other(depth=1)
    assert options_from(Some, given, loop=given.pop("loop")).loop == 8
    assert not given


def test_a_dataclass_of_options_can_be_a_field_of_another():
    assert read_options(Outer, ["--width", "3", "--depth", "4"]) == Outer(Inner(4), 3)
    assert read_options(Outer, []) == Outer() == Outer(Inner(1), 2)


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        read("-m", "a", "--left", "1").loop = 2  # type: ignore[misc]
