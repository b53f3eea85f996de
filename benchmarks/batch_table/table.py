"""The batch table as Markdown and JSON: measurements, their definitions, and separately published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.batch_table.row import Row, Settings
from benchmarks.measuring.report import markdown_table
from vidom.formats.recipe import Published

__all__ = ["definitions", "document", "markdown"]

NO_STORE = "no store given"
_HEAD = (
    *("chip", "engine", "batch", "data set", "n", "top-1 (95 % interval)", "top-5 (95 % interval)", "fps"),
    *("end to end, samples/s", "reads for fps, MB/s", "published top-1 / top-5", "published fps"),
)


def markdown(settings: Settings, rows: Sequence[Row]) -> str:
    """Return the table in ModelZoo's form, every cell filled, and the definitions of its numbers."""
    lines = [
        f"# {settings.recipe.name}: {len(rows)} batch sizes on {rows[0].chip}",
        "",
        markdown_table(_HEAD, [_cells(settings, row) for row in rows]),
        "",
        *(f"- {text}" for text in definitions(settings)),
    ]
    return "\n".join(lines) + "\n"


def document(settings: Settings, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table for programs: separate lists of measured rows and published numbers."""
    return {
        "schema": 1,
        "recipe": settings.recipe.name,
        "recipe_sha256": settings.recipe.digest,
        "average_clips": settings.recipe.head.average_clips,
        "checkpoint": settings.checkpoint,
        "engine": settings.engine.name,
        "npu_used": settings.engine.on_npu,
        "loop": settings.loop,
        "sample_bytes": settings.sample_bytes,
        "definitions": definitions(settings),
        "measured": [asdict(row) for row in rows],
        "published": [entry.model_dump() for entry in settings.recipe.published],
    }


def definitions(settings: Settings) -> list[str]:
    """Return a definition of each number of the table and its source."""
    program = {"ascend": "ais_bench", "cann": "onnxruntime-cann"}.get(settings.engine.name)
    used = (
        f"All measured numbers are from {program} on the named NPU."
        if program
        else "All measured numbers are from the named engine and device; no NPU was used."
    )
    copied = (
        "copies to the device are included, nothing is read or written"
        if settings.engine.name == "cann"
        else "nothing is read, copied or written"
    )
    texts = [
        used,
        f"fps: samples/s of pure compute, 1000 × batch / mean milliseconds of one execution over {settings.loop} "
        f"executions; {copied}.",
        "end to end: samples/s of the clip store in wall time, from the first byte read to the last output written, "
        "with reading, copies to the device (H2D) and back (D2H) and files, without loading the model.",
        f"reads for fps: {settings.sample_bytes / 1e6:.2f} MB per sample times fps, the input rate that this fps "
        "requires.",
    ]
    if settings.precision == "bf16":
        texts.append(
            "flips: rows whose top-1 differs between bfloat16 and float32; rows of the store, or of random bytes "
            "without one."
        )
    if settings.recipe.published:
        sources = "; ".join(
            f"{entry.source} (average_clips {entry.average_clips}"
            + (f", {entry.chip})" if entry.chip else ")")
            for entry in settings.recipe.published
        )
        texts.append(
            f"published: by others, not measured here: {sources}. The measured rows have average_clips "
            f"{settings.recipe.head.average_clips}."
        )
    return texts


def _cells(settings: Settings, row: Row) -> list[str]:
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
        f"{row.fps * settings.sample_bytes / 1e6:.1f}",
        "; ".join(map(_published_accuracy, settings.recipe.published)) or "none",
        "; ".join(
            f"{entry.fps[row.batch_size]:.2f} ({entry.chip or 'chip unknown'})"
            for entry in settings.recipe.published
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
