from __future__ import annotations

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from train.clips.clip_loader import Batch


def test_dataloader_pins_what_is_copied_to_the_device(monkeypatch: pytest.MonkeyPatch):
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor.clone()

    # A machine without a GPU has no such memory.
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = Batch(torch.arange(6, dtype=torch.uint8), torch.tensor([4]), (7,), ())
    result = pin_memory(batch)
    assert [tensor.data_ptr() for tensor in pinned] == [batch.pixels.data_ptr(), batch.labels.data_ptr()]
    assert torch.equal(result.pixels, batch.pixels) and torch.equal(result.labels, batch.labels)
    assert result.pixels.data_ptr() != batch.pixels.data_ptr() and result.indices == (7,)
