"""The text of a recipe as plain values: YAML without what only a mistake or an attack needs, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vidom.bounded_reading import read_text
from vidom.errors import BadDataError, UsageError
from vidom.wording import shown

__all__ = ["parse_value", "read_document"]

_MAX_BYTES = 1 << 16
_MAX_DEPTH = 8
_MAX_VALUES = 1000
_MAX_SCALAR = 1000


class _Loader(yaml.SafeLoader):
    """Refuses a key that appears twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of the node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key)!r} appears twice", node.value[number][0].start_mark
                )
        return super().construct_mapping(node, deep)


def read_document(path: Path) -> dict[Any, Any]:
    """Return the mapping in the recipe file at `path`.

    Raises UsageError, naming the place, for a file that is absent, not regular, not text, longer than 64 kB, not a YAML
    mapping, or that holds aliases, tags, a key twice, more than 8 levels or 1,000 values, or a value of more than 1,000
    characters.
    """
    try:
        document = _parse(read_text(path, what="recipe", max_bytes=_MAX_BYTES))
    except BadDataError as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"The recipe {path} must be a YAML mapping, found {type(document).__name__}.")
    return document


def parse_value(text: str) -> Any:
    """Return the value of a YAML text within the limits of a recipe. Raises ValueError for anything else."""
    return _parse(text)


def _parse(text: str) -> Any:
    try:
        _check(text)
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not valid YAML: {shown(' '.join(str(error).split()), 300)}.") from None
    except (ArithmeticError, TypeError, RecursionError) as error:
        raise ValueError(f"it holds a value that YAML cannot build ({shown(error)})") from None


def _check(text: str) -> None:
    """Raise ValueError for what a recipe does not need, before anything is built of it."""
    depth = values = 0
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"line {line} has more than {_MAX_DEPTH} levels.")
        values += isinstance(event, yaml.NodeEvent)
        if values > _MAX_VALUES:
            raise ValueError(f"it has more than {_MAX_VALUES} keys and values.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {line} uses an alias or an anchor; write the value out.")
        if tag := getattr(event, "tag", None):
            raise ValueError(f"line {line} uses the tag {shown(tag)}; leave it out.")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR:
            raise ValueError(f"the value in line {line} has more than {_MAX_SCALAR} characters.")
