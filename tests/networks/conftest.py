"""Fixtures of the checkpoint tests."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmaction2_files import META, small
from torch import Tensor


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Return the state dict of the small TSM."""
    return dict(small().state_dict())


@pytest.fixture
def checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """Return a checkpoint file of the small TSM in the layout of mmaction2."""
    path = tmp_path / "tsm.pth"
    torch.save({"meta": META, "state_dict": OrderedDict(state)}, path)
    return path
