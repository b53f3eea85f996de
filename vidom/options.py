"""Command-line options as frozen dataclasses: a field carries its documentation, parsers are built from the fields.

    @dataclass(frozen=True, kw_only=True)
    class ScoreOptions:
        '''Score an engine's outputs against the labels.'''

        result_path: Path = option("summary, or folder of outputs")
        top: int = option("how many classes", default=5)

    options = read_options(ScoreOptions, argv, prog="vidom score")

The class's docstring is the command's description. The type of a field decides how its value is read: `bool` is a
switch, `Literal[...]` a choice, `tuple[X, ...]` takes several values, `X | None` may be left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin

from vidom.command import Parser

__all__ = ["OptionGroup", "add_options", "group", "nested", "option", "options_from", "read_options"]

T = TypeVar("T")
_KEY = "vidom.option"


class OptionGroup(Protocol):
    """A field whose value is built from several options, such as a recipe and its overrides."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to the parser, each with `default=argparse.SUPPRESS`."""

    def build(self, given: dict[str, Any]) -> Any:
        """Return the field's value, removing its options from `given`, which holds those that were typed."""


@dataclasses.dataclass(frozen=True)
class _Option:
    help: str
    flags: tuple[str, ...]
    metavar: str | None
    parse: Callable[[str], Any] | None
    append: bool
    extend: bool


def option(
    help: str,
    *flags: str,
    default: Any = dataclasses.MISSING,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
    append: bool = False,
    extend: bool = False,
) -> Any:
    """Return a dataclass field that is the option `--NAME`.

    Args:
        help: what it is, in a line.
        flags: further spellings, such as `-m`; a single word without dashes makes it positional instead.
        default: its value where it is not given; without one the option is required.
        metavar: what the help shows for its value.
        parse: a function from the text to the field's value (with `append`, to one item of it), which raises
            ValueError or argparse.ArgumentTypeError for a wrong one; by default the field's type decides, or text
            where it is one of several types. A tuple field with `parse` takes one word, such as a comma-separated
            list.
        append: the option may be repeated, each time with one value; the field is a tuple of them.
        extend: the option takes several values and may be repeated; the field is a tuple of all of them, each read
            by `parse`.
    """
    metadata = {_KEY: _Option(help, flags, metavar, parse, append, extend)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(options: OptionGroup, *, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field whose value `options` builds from options of its own."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={_KEY: options})
    return dataclasses.field(default=default, metadata={_KEY: options})


class _Nested:
    """The options of a dataclass as a group of a second one."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def add(self, parser: argparse.ArgumentParser) -> None:
        add_options(parser, self.cls)

    def build(self, given: dict[str, Any]) -> Any:
        return options_from(self.cls, given)


def nested(cls: type[Any]) -> Any:
    """Return a dataclass field of type `cls`, an options dataclass whose fields all have defaults, default `cls()`."""
    return group(_Nested(cls), default=cls())


def read_options(cls: type[T], argv: Sequence[str] | None, *, prog: str | None = None) -> T:
    """Return the options in `argv` (default: the process's own) as an instance of the dataclass `cls`.

    Exits with 2 and the usage where they are wrong, as argparse does.
    """
    parser = Parser(prog=prog, description=inspect.getdoc(cls) or "")
    add_options(parser, cls)
    return options_from(cls, vars(parser.parse_args(argv)))


def add_options(parser: argparse.ArgumentParser, cls: type[Any], *, leave_out: Sequence[str] = ()) -> None:
    """Add the options of the dataclass `cls` to the parser; fields that are not options are skipped."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        spec = field.metadata.get(_KEY)
        if spec is None or field.name in leave_out:
            continue
        if isinstance(spec, _Option):
            _add_option(parser, field, spec, hints[field.name])
        else:
            spec.add(parser)


def options_from(cls: type[T], given: dict[str, Any], **values: Any) -> T:
    """Return an instance of the dataclass `cls` from the options that were typed, which are taken out of `given`.

    Options that are left out keep the defaults of their fields; `values` are further fields.
    """
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        spec = field.metadata.get(_KEY)
        if field.name in values or spec is None:
            continue
        if not isinstance(spec, _Option):
            values[field.name] = spec.build(given)
        elif field.name in given:
            value = given.pop(field.name)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _add_option(parser: argparse.ArgumentParser, field: Any, spec: _Option, hint: Any) -> None:
    required = field.default is dataclasses.MISSING
    kind, several = _kind(hint)
    words: dict[str, Any] = {
        "help": (spec.help + _default_text(field.default)).replace("%", "%%"),
        "default": argparse.SUPPRESS,
    }
    if spec.metavar:
        words["metavar"] = spec.metavar
    if kind is bool and spec.parse is None:
        words["action"] = "store_true"
    else:
        words["type"] = spec.parse or _converter(kind)
        if spec.parse is None and get_origin(kind) is Literal:
            words["choices"] = get_args(kind)
        if spec.append:
            words["action"] = "append"
        elif spec.extend:
            words["action"], words["nargs"] = "extend", "+"
        elif several and spec.parse is None:
            # Without values a non-empty default is replaced by none.
            words["nargs"] = "+" if required or not (_positional(spec) or field.default) else "*"
    if _positional(spec):
        if not required and "nargs" not in words:
            words["nargs"] = "?"
        parser.add_argument(field.name, **words)
        return
    parser.add_argument(f"--{field.name}", *spec.flags, required=required, dest=field.name, **words)


def _positional(spec: _Option) -> bool:
    return any(not flag.startswith("-") for flag in spec.flags)


def _default_text(default: Any) -> str:
    if default is dataclasses.MISSING or default in (None, "", (), False):
        return ""
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f" (default: {text})"


def _kind(hint: Any) -> tuple[Any, bool]:
    """Return the type of one value and whether the option takes several."""
    if get_origin(hint) in (Union, types.UnionType):
        hint, *others = [part for part in get_args(hint) if part is not type(None)]
        if others:  # one of several types, which only the option's `parse` can distinguish
            return str, False
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def _converter(kind: Any) -> Callable[[str], Any]:
    if get_origin(kind) is not Literal:
        return kind  # type: ignore[no-any-return]
    texts = {str(value): value for value in get_args(kind)}
    # An unknown word is passed on, so that argparse names the choices.
    return lambda text: texts.get(text, text)
