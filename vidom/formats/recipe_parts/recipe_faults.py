"""Faults of a recipe in words that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

from vidom.wording import shown

__all__ = ["explain", "is_text"]


def explain(fault: Any, root: type[BaseModel]) -> str:
    """Return pydantic's fault as one line: where, what, found; an unknown key with the nearest known one."""
    *parents, key = fault["loc"] or ("recipe",)
    # Pydantic puts the architecture's name between `network` and its key.
    where = ".".join(
        shown(part, 40) for part in (*parents[:1], *parents[1 + (parents[:1] == ["network"]) :], key)
    )
    if fault["type"] != "extra_forbidden":
        unhelpful = ("missing", "value_error", "union_tag_invalid")
        found = "" if fault["type"] in unhelpful else f", found {shown(repr(fault['input']), 80)}"
        return f"{where}: {shown(fault['msg'].removeprefix('Value error, '), 400)}{found}"
    near = difflib.get_close_matches(str(key), _keys_of(parents, root), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(_keys_of(parents, root))}"
    return f"{where}: unknown key; {hint}"


def is_text(keys: Sequence[str], root: type[BaseModel]) -> bool:
    """Return whether the entry at these keys is a text of its own kind, not a number or one of a few words."""
    *parents, leaf = keys
    fields = [model.model_fields[leaf] for model in _models_at(parents, root) if leaf in model.model_fields]
    return any(field.annotation is str or str in get_args(field.annotation) for field in fields)


def _keys_of(parents: Sequence[Any], root: type[BaseModel]) -> list[str]:
    models = _models_at(parents, root)
    return list(models[0].model_fields) if models else []


def _models_at(parents: Sequence[Any], root: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the sections that these keys lead to: one, or all kinds of one before its kind is named."""
    models: list[type[BaseModel]] = [root]
    for parent in parents:
        fields = [model.model_fields[parent] for model in models if parent in model.model_fields]
        if fields:
            models = [member for field in fields for member in _models_in(field.annotation)]
        else:
            models = [
                m
                for m in models
                if parent in get_args(getattr(m.model_fields.get("arch"), "annotation", None))
            ]
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
