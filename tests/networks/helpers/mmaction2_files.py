"""Checkpoints of mmaction2 for the tests: a small network, its file, and what the reader makes of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from networks.checkpoints.torch_weights import read_torch
from networks.tsm import TSM
from vidom.errors import BadDataError, ExitCode

META = {"epoch": 50, "config_name": "tsm_r50.py", "seed": None, "time": "Thu Jan 1 2021"}


def small(num_classes: int = 5) -> TSM:
    """Return a TSM of depth 10 with the same weights every time."""
    torch.manual_seed(num_classes)
    return TSM(depth=10, num_classes=num_classes, base_channels=8)


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Return whether both have the same keys in the same order, and equal tensors."""
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


def error_of(path: Path) -> str:
    """Return the message of the BadDataError for the file, which must be one paragraph with its path."""
    with pytest.raises(BadDataError) as caught:
        read_torch(path)
    assert caught.value.exit_code == ExitCode.BAD_DATA
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Runs:
    """An object that pickles to a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced
