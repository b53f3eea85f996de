"""Figures of rooflines: this machine's with the measured run, the devices' with published speeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.roofline.published_devices import DEVICES
from benchmarks.roofline.tables import MeasuredRun

__all__ = ["plot_roofline"]


def plot_roofline(figure: Any, measured: MeasuredRun) -> None:
    """Plot a roofline for this machine and one for each device with published speeds of the recipe.

    A run is a line from the bytes of all unfused operators to those of convolutions and matrix products alone.
    """
    devices = [
        device for device in DEVICES if any(entry.chip == device.chip for entry in measured.recipe.published)
    ]
    figure.set_size_inches(7 + 5 * len(devices), 5)
    axes = figure.subplots(1, 1 + len(devices), squeeze=False)[0]
    peaks = measured.peaks
    _roof(axes[0], peaks.flops, peaks.bandwidth)
    for kind, costs in measured.by_kind.items():
        flops, moved = (sum(getattr(cost, what) for cost in costs) for what in ("flops", "moved_bytes"))
        if flops:
            reach = min(peaks.flops, peaks.bandwidth * flops / moved)
            axes[0].plot(flops / moved, reach, "o", fillstyle="none", label=f"{kind}: upper bound")
    span = np.array([measured.flops / measured.moved_bytes, measured.flops / measured.heavy_bytes])
    axes[0].plot(span, [measured.flops / measured.seconds] * 2, "k*-", label="measured run")
    axes[0].set_title(
        f"{measured.recipe.name}, batch {measured.batch}, on this machine, float32", fontsize=10
    )
    work = sum(cost.flops for cost in measured.exported)
    every = sum(cost.moved_bytes for cost in measured.exported)
    heavy = sum(cost.moved_bytes for cost in measured.exported if cost.flops)
    for device, place in zip(devices, axes[1:], strict=True):
        _roof(place, device.flops, device.bandwidth)
        for entry in measured.recipe.published:
            for batch, fps in entry.fps.items() if entry.chip == device.chip else ():
                # Half the bytes in float16.
                speed = fps * work / measured.batch
                place.plot(
                    [2 * work / every, 2 * work / heavy],
                    [speed] * 2,
                    "*-",
                    label=f"published, batch {batch}",
                )
        place.set_title(f"{device.chip}, theoretical, float16", fontsize=10)
    for place in axes:
        place.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="FLOP/s")
        place.grid(alpha=0.3, which="both")
        place.legend(fontsize=8, loc="lower right")


def _roof(axes: Any, flops: float, bandwidth: float) -> None:
    intensity = np.array([0.3, flops / bandwidth, 10_000])
    axes.plot(intensity, np.minimum(flops, bandwidth * intensity), color="#555555", label="roof")
