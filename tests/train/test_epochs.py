from __future__ import annotations

import math

import pytest

from train.clips.epochs import Epochs


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
@pytest.mark.parametrize("samples", [1, 7, 16, 33])
def test_every_sample_is_trained_on_once_an_epoch_on_any_number_of_devices(samples: int, devices: int):
    epochs = Epochs(samples, batch_size=4, devices=devices, seed=3)
    shares = [
        list(epochs.batches(device=device, first=0, last=2 * epochs.steps)) for device in range(devices)
    ]
    assert {len(share) for share in shares} == {2 * math.ceil(samples / (4 * devices))}
    for epoch in range(2):
        keys = [key for share in shares for batch in share for key in batch if key[0] == epoch]
        assert sorted(keys) == [(epoch, index) for index in range(samples)]


def test_the_clips_of_a_step_are_those_of_one_device_with_the_whole_batch():
    together = Epochs(40, batch_size=8, devices=1, seed=3)
    apart = Epochs(40, batch_size=4, devices=2, seed=3)
    whole = together.batches(device=0, first=0, last=10)
    halves = zip(*(apart.batches(device=device, first=0, last=10) for device in range(2)), strict=True)
    for batch, parts in zip(whole, halves, strict=True):
        assert sorted(batch) == sorted(key for part in parts for key in part)


def test_a_run_that_begins_later_takes_the_same_steps():
    epochs = Epochs(11, batch_size=2, devices=1, seed=0)
    assert (
        list(epochs.batches(device=0, first=7, last=15))
        == list(epochs.batches(device=0, first=0, last=15))[7:]
    )


def test_epochs_and_seeds_have_different_orders():
    orders = [
        [
            key[1]
            for batch in Epochs(50, 5, 1, seed).batches(device=0, first=first, last=first + 10)
            for key in batch
        ]
        for seed, first in ((0, 0), (0, 10), (1, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3
