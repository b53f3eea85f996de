"""Rooflines as pictures: the machine's with the run measured on it, the cards' with what was published."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.roofline.published_devices import CARDS
from benchmarks.roofline.tables import MeasuredRun

__all__ = ["plot_roofline"]


def plot_roofline(figure: Any, measured: MeasuredRun) -> None:
    """`figure` holds a roof for this machine and one for each card that the recipe has published speeds of.

    A run is a line: from the bytes of every operator by itself to those of convolutions and matrix products alone.
    """
    cards = [card for card in CARDS if any(entry.chip == card.chip for entry in measured.recipe.published)]
    figure.set_size_inches(7 + 5 * len(cards), 5)
    axes = figure.subplots(1, 1 + len(cards), squeeze=False)[0]
    found = measured.peaks
    _roof(axes[0], found.flops, found.bandwidth)
    for kind, costs in measured.by_kind.items():
        flops, moved = (sum(getattr(cost, what) for cost in costs) for what in ("flops", "moved_bytes"))
        if flops:
            reach = min(found.flops, found.bandwidth * flops / moved)
            axes[0].plot(flops / moved, reach, "o", fillstyle="none", label=f"{kind}: at most")
    span = np.array([measured.flops / measured.moved_bytes, measured.flops / measured.heavy_bytes])
    axes[0].plot(span, [measured.flops / measured.seconds] * 2, "k*-", label="the run, measured")
    axes[0].set_title(
        f"{measured.recipe.name}, batch {measured.batch}, on this machine, float32", fontsize=10
    )
    work = sum(cost.flops for cost in measured.exported)
    every = sum(cost.moved_bytes for cost in measured.exported)
    heavy = sum(cost.moved_bytes for cost in measured.exported if cost.flops)
    for card, place in zip(cards, axes[1:], strict=True):
        _roof(place, card.flops, card.bandwidth)
        for entry in measured.recipe.published:
            for batch, fps in entry.fps.items() if entry.chip == card.chip else ():
                # Half the bytes in float16.
                speed = fps * work / measured.batch
                place.plot(
                    [2 * work / every, 2 * work / heavy],
                    [speed] * 2,
                    "*-",
                    label=f"published, batch {batch}",
                )
        place.set_title(f"{card.chip}, on paper, float16", fontsize=10)
    for place in axes:
        place.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="FLOP/s")
        place.grid(alpha=0.3, which="both")
        place.legend(fontsize=8, loc="lower right")


def _roof(axes: Any, flops: float, bandwidth: float) -> None:
    intensity = np.array([0.3, flops / bandwidth, 10_000])
    axes.plot(intensity, np.minimum(flops, bandwidth * intensity), color="#555555", label="the roof")
