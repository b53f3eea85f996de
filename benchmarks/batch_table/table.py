"""The batch table as Markdown and JSON: what was measured, what that means, and apart from it what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.batch_table.row import Order, Row
from benchmarks.measuring.report import markdown_table
from vidom.formats.recipe import Published

__all__ = ["definitions", "document", "markdown"]

NO_STORE = "no store given"
_HEAD = (
    *("chip", "engine", "batch", "data set", "n", "top-1 (95 % interval)", "top-5 (95 % interval)", "fps"),
    *("end to end, samples/s", "reads for fps, MB/s", "published top-1 / top-5", "published fps"),
)


def markdown(order: Order, rows: Sequence[Row]) -> str:
    """Return the table in ModelZoo's form, every cell filled, and below it what its numbers are."""
    lines = [
        f"# {order.recipe.name}: {len(rows)} batch sizes on {rows[0].chip}",
        "",
        markdown_table(_HEAD, [_cells(order, row) for row in rows]),
        "",
        *(f"- {text}" for text in definitions(order)),
    ]
    return "\n".join(lines) + "\n"


def document(order: Order, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table for programs: measured rows and published numbers in lists of their own."""
    return {
        "schema": 1,
        "recipe": order.recipe.name,
        "recipe_sha256": order.recipe.digest,
        "average_clips": order.recipe.head.average_clips,
        "checkpoint": order.checkpoint,
        "engine": order.engine.name,
        "npu_used": order.engine.name == "ascend",
        "loop": order.loop,
        "sample_bytes": order.sample_bytes,
        "definitions": definitions(order),
        "measured": [asdict(row) for row in rows],
        "published": [entry.model_dump() for entry in order.recipe.published],
    }


def definitions(order: Order) -> list[str]:
    """Return a sentence on each number of the table and on where it came from."""
    used = (
        "All measured numbers are of ais_bench on the NPU named."
        if order.engine.name == "ascend"
        else "All measured numbers are of the engine and the device named; no NPU took part."
    )
    texts = [
        used,
        f"fps: samples a second of pure compute, 1000 × batch / mean milliseconds of one execution over {order.loop} "
        "executions; nothing is read, copied or written.",
        "end to end: real samples of the clip store a second of wall time, from the first byte read to the last "
        "output written, with reading, copies to the device (H2D) and back (D2H) and files; loading is left out.",
        f"reads for fps: {order.sample_bytes / 1e6:.2f} MB a sample times fps, what the disk must deliver for that fps "
        "to be reached.",
    ]
    if order.precision == "bf16":
        texts.append(
            "flips: of rows computed in float32 too, those whose best class is another in bfloat16; rows of the store, "
            "or of random bytes without one."
        )
    if order.recipe.published:
        told = "; ".join(
            f"{entry.source} (average_clips {entry.average_clips}"
            + (f", {entry.chip})" if entry.chip else ")")
            for entry in order.recipe.published
        )
        texts.append(
            f"published: by others, none of it measured here: {told}. The measured rows have average_clips "
            f"{order.recipe.head.average_clips}."
        )
    return texts


def _cells(order: Order, row: Row) -> list[str]:
    end_to_end = NO_STORE if row.samples_per_second is None else f"{row.samples_per_second:.2f}"
    return [
        row.chip,
        row.engine if row.flips is None else "{}, flips {} of {}".format(row.engine, *row.flips),
        str(row.batch_size),
        row.dataset,
        NO_STORE if row.n is None else str(row.n),
        _accuracy(row.top1),
        _accuracy(row.top5),
        f"{row.fps:.2f}",
        end_to_end,
        f"{row.fps * order.sample_bytes / 1e6:.1f}",
        "; ".join(map(_published_accuracy, order.recipe.published)) or "none",
        "; ".join(
            f"{entry.fps[row.batch_size]:.2f} ({entry.chip or 'chip not told'})"
            for entry in order.recipe.published
            if row.batch_size in entry.fps
        )
        or "none",
    ]


def _accuracy(share: tuple[float, ...] | None) -> str:
    if share is None:
        return NO_STORE
    value, low, high = share
    return f"{value:.4f} ({low:.4f} – {high:.4f})"


def _published_accuracy(entry: Published) -> str:
    top5 = "–" if entry.top5 is None else f"{entry.top5:.4f}"
    return f"{entry.top1:.4f} / {top5} ({', '.join(filter(None, (entry.average_clips, entry.chip)))})"
