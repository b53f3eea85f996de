"""Documented peaks of the devices of published speeds."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measuring.report import Table
from benchmarks.roofline.operator_costs import OpCost
from vidom.formats.recipe import Recipe

__all__ = ["DEVICES", "Device", "theoretical_tables"]


@dataclass(frozen=True)
class Device:
    """A device with one chip: documented float16 operations and memory bytes per second, and their source."""

    name: str
    chip: str
    flops: float
    bandwidth: float
    source: str


DEVICES = (
    Device(
        "Atlas 300I Pro",
        "Ascend310P3",
        70e12,
        204.8e9,
        "Huawei, Atlas 300I Pro Inference Device, specification sheet at "
        "https://e.huawei.com/cn/products/cloud-computing-dc/atlas/atlas-300i-pro (140 TOPS INT8, 70 TFLOPS FP16, "
        "24 GB of LPDDR4X at 204.8 GB/s)",
    ),
)


def theoretical_tables(recipe: Recipe, costs: tuple[OpCost, ...], *, samples: int) -> tuple[Table, ...]:
    """Return for each device a table of the recipe's published speeds on its chip, compared with its peaks.

    `costs` are those of an exported float32 graph of `samples` samples.
    """
    flops = sum(cost.flops for cost in costs) / samples
    least = sum(cost.moved_bytes for cost in costs if cost.flops) / samples / 2
    most = sum(cost.moved_bytes for cost in costs) / samples / 2
    tables = []
    for device in DEVICES:
        rows = [
            (
                batch,
                fps,
                fps * flops / 1e12,
                f"{fps * flops / device.flops:.1%}",
                f"{fps * least / device.bandwidth:.0%} – {fps * most / device.bandwidth:.0%}",
            )
            for entry in recipe.published
            if entry.chip == device.chip
            for batch, fps in entry.fps.items()
        ]
        if rows:
            sources = "; ".join(entry.source for entry in recipe.published if entry.chip == device.chip)
            tables.append(
                Table(
                    f"Theoretical: {device.chip}, not measured here",
                    ["batch", "published fps", "TFLOP/s", "share of fp16 peak", "share of memory bandwidth"],
                    rows,
                    f"fps: {sources}. Peaks of a device with one such chip: {device.source}. A multiply-add is two "
                    "operations. Bandwidth: in float16, from convolutions and matrix products alone to all unfused "
                    "operators of the exported graph; fusion by the compiler is in between, caches reduce it further.",
                )
            )
    return tuple(tables)
