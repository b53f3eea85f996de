"""What vendors document of the cards that recipes publish speeds of."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measuring.report import Table
from benchmarks.roofline.operator_costs import OpCost
from vidom.formats.recipe import Recipe

__all__ = ["CARDS", "Card", "on_paper"]


@dataclass(frozen=True)
class Card:
    """A card with one chip: its documented float16 operations and bytes of memory a second, and where they stand."""

    name: str
    chip: str
    flops: float
    bandwidth: float
    source: str


CARDS = (
    Card(
        "Atlas 300I Pro",
        "Ascend310P3",
        70e12,
        204.8e9,
        "Huawei, Atlas 300I Pro Inference Card, specification sheet at "
        "https://e.huawei.com/cn/products/cloud-computing-dc/atlas/atlas-300i-pro (140 TOPS INT8, 70 TFLOPS FP16, "
        "24 GB of LPDDR4X at 204.8 GB/s)",
    ),
)


def on_paper(recipe: Recipe, costs: tuple[OpCost, ...], *, samples: int) -> tuple[Table, ...]:
    """Return for each card a table of the speeds that the recipe publishes for its chip, against what it can do.

    `costs` are those of a float32 graph as exported that computes `samples` samples.
    """
    flops = sum(cost.flops for cost in costs) / samples
    least = sum(cost.moved_bytes for cost in costs if cost.flops) / samples / 2
    most = sum(cost.moved_bytes for cost in costs) / samples / 2
    tables = []
    for card in CARDS:
        rows = [
            (
                batch,
                fps,
                fps * flops / 1e12,
                f"{fps * flops / card.flops:.1%}",
                f"{fps * least / card.bandwidth:.0%} – {fps * most / card.bandwidth:.0%}",
            )
            for entry in recipe.published
            if entry.chip == card.chip
            for batch, fps in entry.fps.items()
        ]
        if rows:
            sources = "; ".join(entry.source for entry in recipe.published if entry.chip == card.chip)
            tables.append(
                Table(
                    f"On paper: {card.chip}, nothing of it measured here",
                    ["batch", "published fps", "TFLOP/s", "of the fp16 peak", "of the memory's bandwidth"],
                    rows,
                    f"fps: {sources}. Peaks, of a card with one such chip: {card.source}. A multiply-add is two "
                    "operations. Bandwidth: in float16, from convolutions and matrix products alone to every operator "
                    "of the exported graph by itself; the compiler's fusion lies between, and its cache spares more.",
                )
            )
    return tuple(tables)
