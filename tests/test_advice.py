"""Options, make variables and make targets that the product's texts name exist."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from stage_packages import PACKAGES

from vidom.command import Parser

ROOT = Path(__file__).resolve().parents[1]
OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*[A-Za-z0-9]")
VARIABLE = re.compile(r"(?<![\w$={-])[A-Z][A-Z0-9_]+(?==)")
TARGET = re.compile(r"(?:^|[`(]|: )make ([a-z][a-z-]*)")
# Of CANN, of a shell, and a placeholder in a help text.
NO_MAKE_VARIABLES = {"MAX_COMPILE_CORE_NUMBER", "TE_PARALLEL_COMPILER", "STORE", "KEY"}
EXTERNAL = {
    "atc": "auto_tune_mode framework help host_env_cpu input_format input_shape insert_op_conf keep_dtype log "
    "op_precision_mode out_nodes output_type precision_mode precision_mode_v2 soc_version",
    "ais_bench": "pipeline",
    "mmaction2's build_rawframes.py": "new-short",
    "pip": "disable-pip-version-check editable force-reinstall index-url no-build-isolation no-deps require-hashes",
    "ray": "address head port resources",
    "a placeholder": "NAME",
}


def literals() -> Iterator[tuple[str, str]]:
    """Yield every string of the product's source, with where it is."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def commands() -> Iterator[Callable[[list[str]], object]]:
    """Yield the `main` of every module that has one and builds a parser of options in it."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\ndef main(" in text and re.search(r"\b(\w*Parser|read_options)\(", text):
            yield import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)).main


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """The options that the parsers of all commands take."""
    found: set[str] = set()

    class Parsed(BaseException):
        pass

    def record(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.update(self._option_string_actions)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        # Nothing may get past its parser: one of these commands installs packages.
        for parser in (argparse.ArgumentParser, Parser):
            patch.setattr(parser, "parse_args", record)
            patch.setattr(parser, "parse_known_args", record)
        for main in commands():
            with pytest.raises(Parsed):
                main([])
    return found


@pytest.mark.slow
def test_every_option_named_in_a_text_exists(known_options: set[str]) -> None:
    assert len(known_options) > 100
    external = {f"--{name}" for names in EXTERNAL.values() for name in names.split()}
    unknown = {
        (where, option)
        for where, text in literals()
        for option in OPTION.findall(text)
        if option not in known_options | external
        and option.replace("-", "_").replace("__", "--", 1) not in known_options
    }
    assert not unknown, "\n".join(map(str, sorted(unknown)))


def test_every_make_variable_and_target_named_in_a_text_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set[str]()
    for line in re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE):
        targets.update(line.split())
    variables = set(re.findall(r"\$[({]([A-Z][A-Z0-9_]*)", makefile))
    texts = list(literals())
    environment = {text for _, text in texts if re.fullmatch(r"[A-Z][A-Z0-9_]+", text)}
    unknown = {
        (where, name)
        for where, text in texts
        for name in VARIABLE.findall(text)
        if name not in variables | environment | NO_MAKE_VARIABLES
    }
    unknown.update(
        (where, word) for where, text in texts for word in TARGET.findall(text) if word not in targets
    )
    assert not unknown, "\n".join(map(str, sorted(unknown)))


def test_the_collection_finds_what_it_is_for() -> None:
    assert OPTION.findall("pack with --dtype float32, not --no-such_option.") == [
        "--dtype",
        "--no-such_option",
    ]
    assert VARIABLE.findall("make infer ENGINE=cann BS=8") == ["ENGINE", "BS"]
    assert TARGET.findall("Build it (make export), or `make om DRY_RUN=1`, to make a model.") == [
        "export",
        "om",
    ]
