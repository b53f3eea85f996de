"""Seeded random weights: determined by name, shape and seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from networks.seeded import seeded_state_dict

SHAPES = {
    "backbone.conv1.conv.weight": (8, 3, 7, 7),
    "backbone.conv1.bn.weight": (8,),
    "backbone.conv1.bn.running_var": (8,),
    "backbone.conv1.bn.num_batches_tracked": (),
    "backbone.layer1.0.conv1.conv.net.weight": (16, 8, 1, 1),
    "cls_head.fc_cls.weight": (5, 16),
    "cls_head.fc_cls.bias": (5,),
}


def test_a_tensor_does_not_depend_on_the_others() -> None:
    together = seeded_state_dict(SHAPES, seed=0)
    assert list(together) == list(SHAPES)
    for key, shape in SHAPES.items():
        assert torch.equal(seeded_state_dict({key: shape}, seed=0)[key], together[key])


@pytest.mark.parametrize("seed", [1, 7, 10**15])
def test_a_different_seed_gives_different_tensors(seed: int) -> None:
    first, second = seeded_state_dict(SHAPES, seed=0), seeded_state_dict(SHAPES, seed=seed)
    equal = [key for key in SHAPES if torch.equal(first[key], second[key])]
    # The counter is the sum modulo 1000.
    assert equal == (["backbone.conv1.bn.num_batches_tracked"] if seed % 1000 == 0 else [])


def test_seed_is_added_to_the_crc_of_the_key() -> None:
    # crc32("a") is 0xe8b7be43 (the check value of RFC 1952's polynomial for one letter).
    expected = 0.1 * np.random.default_rng(0xE8B7BE43 + 3).standard_normal(4)
    np.testing.assert_array_equal(seeded_state_dict({"a": (4,)}, seed=3)["a"], expected.astype(np.float32))


def test_all_filters_except_the_stems_sum_to_zero() -> None:
    tensors = seeded_state_dict(SHAPES, seed=0)
    for key in ("backbone.layer1.0.conv1.conv.net.weight", "cls_head.fc_cls.weight"):
        assert tensors[key].flatten(1).sum(dim=1).abs().max() < 1e-5
    assert tensors["backbone.conv1.conv.weight"].flatten(1).sum(dim=1).abs().max() > 0.1
    assert (tensors["backbone.conv1.bn.running_var"] >= 1).all()
