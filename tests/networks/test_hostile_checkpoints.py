"""Checkpoints made to break their readers: each ends in one paragraph without control characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from networks.checkpoints.any_file import read_any
from vidom.errors import BadDataError

ATTACKS = Path(__file__).parents[1] / "fixtures" / "attacks"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zip64_offset_9223372036854775807.pth", "outside the file"),
        ("zip64_offset_18446744073709551615.pth", "outside the file"),
        ("shape_int5000bytes.pth", "tensor w: its shape"),
        ("stride_int5000bytes.pth", "tensor w: its shape"),
        ("bool_shape.pth", "tensor w: its shape"),
        ("ctrl_name.pth", r"'w' (an object of foo\x1b[2J.bar)"),
        ("ms_ctrl.ckpt", r"a\x1b[2J.weight (int32)"),
    ],
)
def test_a_hostile_file_is_one_paragraph(name: str, words: str) -> None:
    with pytest.raises(BadDataError) as caught:
        read_any(ATTACKS / name)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert len(message) < 1000
