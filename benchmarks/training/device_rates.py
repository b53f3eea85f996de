"""Clips a second of TSM-R50 on a GPU: precisions, layouts, the compiler, the shift, and frames from disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring.report import Table, Target
from benchmarks.training.loops import ResidentClips, bare_speed, our_speed
from benchmarks.training.made_videos import write_frames
from preprocess.datasets.sample_list import list_samples
from train.clips.clip_loader import ListedClips
from vidom.formats.recipe import load_recipe
from vidom.system.machine import usable_cores

__all__ = ["RESIDENT", "device_rates"]

_log = logging.getLogger(__name__)

_SETTINGS = ("train.batch_size=32",)
_CORES = 16
# A bare loop in fp16, channels-last, on an H100, before the shift kept the layout.
_REQUIRED = 315.0
_BEST, RESIDENT, _DISK = "bare, fp16, channels-last", "vidom, fp16", "vidom, fp16, JPEG files"


def device_rates(folder: Path, *, steps: int) -> tuple[dict[str, float], Table, list[Target]]:
    """Return the clips a second of each variant, as a dictionary and as a table, and the targets.

    Each is logged as soon as it is measured. Frames from disk are made in `folder`.
    """
    rates: dict[str, float] = {}
    for name, rate in _measured(folder, steps):
        rates[name] = rate
        _log.info(f"{name}: {rate:.1f} clips/s")
        torch.cuda.empty_cache()
    rows = [(name, rate, rate / rates[_BEST]) for name, rate in rates.items()]
    title = f"TSM-R50, 8x224, batch 32, on {torch.cuda.get_device_name()}"
    table = Table(
        title,
        ["variant", "clips/s", f"of {_BEST}"],
        rows,
        f"{steps} steps after five that warm up; of JPEG files more.",
    )
    targets = [
        Target(f"{RESIDENT}, clips/s", rates[RESIDENT], _REQUIRED),
        Target(f"{_BEST}, over {RESIDENT}", rates[_BEST] / rates[RESIDENT], 1.05, at_least=False),
    ]
    if usable_cores() >= _CORES:
        targets.append(Target(f"{_DISK}, of those in memory", rates[_DISK] / rates[RESIDENT], 0.9))
    return rates, table, targets


def _measured(folder: Path, steps: int) -> Iterator[tuple[str, float]]:
    recipe = load_recipe("tsm_ucf101", _SETTINGS)
    unshifted = load_recipe("tsm_ucf101", (*_SETTINGS, "network.shift=false"))
    compiled = load_recipe("tsm_ucf101", (*_SETTINGS, "train.compile=true"))
    bare = partial(bare_speed, device=torch.device("cuda"), steps=steps)
    clips, workers = ResidentClips.of(recipe), min(_CORES, usable_cores())
    ours = partial(our_speed, precision="fp16", steps=steps, workers=workers)
    yield _BEST, bare(recipe, precision="fp16", channels_last=True)
    yield f"{_BEST}, no shift", bare(unshifted, precision="fp16", channels_last=True)
    yield RESIDENT, ours(recipe, clips)
    frames = folder / "device"
    annotations = list_samples(write_frames(frames, count=256, frames=16), data_root=frames, recipe=recipe)
    # More steps than batches that the workers have ready at the start.
    listed = ListedClips(recipe, annotations, frames, 0)
    yield _DISK, ours(recipe, listed, steps=max(steps, 5 * workers))
    yield "bare, tf32", bare(recipe, precision="no")
    yield "bare, fp16", bare(recipe, precision="fp16")
    yield "bare, bf16, channels-last", bare(recipe, precision="bf16", channels_last=True)
    yield f"{_BEST}, compiled", bare(recipe, precision="fp16", channels_last=True, compiled=True)
    yield f"{RESIDENT}, compiled", ours(compiled, clips)
