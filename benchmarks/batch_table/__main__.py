"""Accuracy and speed by batch size in one table: `python -m benchmarks.batch_table --recipe M --batches 1 4 8 …`.

For each batch size: export, surgery, ATC for an NPU, inference over the clip store, score, pure-performance loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch_table.plot import plot
from benchmarks.batch_table.row import Row, Settings, measured_row
from benchmarks.batch_table.table import document, markdown
from benchmarks.measuring.report import check_plotting
from export.model_options import ModelOptions
from infer.engines.choice import lacking_for_npu
from infer.engines.engine_options import EngineOptions
from infer.engines.engine_request import (
    BUILT_ENGINES,
    AutoOptions,
    EngineRequest,
    engine_option,
    engine_options,
)
from vidom.command import run
from vidom.errors import UsageError
from vidom.files import write_json, write_text
from vidom.folder_lock import locked_folder
from vidom.formats.clip_store import ClipStore
from vidom.options import option, read_options
from vidom.system.cann import find_atc

__all__ = ["BatchTable", "BatchTableOptions", "batch_table", "main"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchTable:
    """The measured rows, their Markdown, and the output folder."""

    rows: tuple[Row, ...]
    text: str
    output_dir: Path


@dataclass(frozen=True, kw_only=True)
class BatchTableOptions(ModelOptions):
    """Measure accuracy and speed by batch size and show them in one table."""

    batches: tuple[int, ...] = option("batch sizes", default=(1, 4, 8, 16, 32), metavar="N")
    store: Path | None = option(
        "clip store for accuracy and end-to-end speed (default: pure speed only)", default=None
    )
    engine: EngineRequest = engine_option(BUILT_ENGINES)
    soc_version: str | None = option("chip to compile for (default: that of npu-smi)", default=None)
    loop: int = option("executions of the pure-performance loop", default=20)
    output_dir: Path = option("folder of the models, results and table")

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) != len(self.batches):
            raise UsageError(
                f"--batches takes distinct batch sizes of at least 1, not {' '.join(map(str, self.batches))}."
            )
        if self.loop < 1:
            raise UsageError(f"--loop must be at least 1, not {self.loop}.")


def batch_table(options: BatchTableOptions) -> BatchTable:
    """Write `batch_table.md`, `.json` and `.png` with a measured row for each batch size, and return the table.

    An interrupted run keeps its finished rows and resumes. `engine` auto is ascend if an NPU, ais_bench and ATC are
    available. Raises what the stages raise; finished rows are kept.
    """
    check_plotting()
    settings = Settings(
        recipe=options.recipe,
        checkpoint=options.checkpoint,
        ignore_meta=options.ignore_meta,
        input_dtype=options.input_dtype,
        store=ClipStore.open(options.store).folder if options.store else None,
        engine=_engine(options.engine),
        soc_version=options.soc_version,
        loop=options.loop,
        output_dir=options.output_dir,
    )
    rows = []
    for number, batch_size in enumerate(options.batches, 1):
        _log.info(f"[{number}/{len(options.batches)}] batch {batch_size}, engine {settings.engine.name}")
        rows.append(measured_row(settings, batch_size))
    stem = options.output_dir / "batch_table"
    text = markdown(settings, rows)
    write_text(stem.with_suffix(".md"), text)
    write_json(stem.with_suffix(".json"), document(settings, rows))
    plot(stem.with_suffix(".png"), settings, rows)
    return BatchTable(tuple(rows), text, options.output_dir)


def _engine(request: EngineRequest) -> EngineOptions:
    if not isinstance(request, AutoOptions):
        return request
    lacking = lacking_for_npu() or ("" if find_atc() else "atc is not on PATH")
    _log.info(
        f"engine {'onnxruntime' if lacking else 'ascend'}: {lacking or 'NPU, ais_bench and atc are available'}"
    )
    return engine_options("onnxruntime" if lacking else "ascend", request.given)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    options = read_options(BatchTableOptions, argv, prog="python -m benchmarks.batch_table")
    with locked_folder(options.output_dir):
        table = batch_table(options)
    print(table.text, end="")
    _log.info(f"table, numbers and figure: {table.output_dir / 'batch_table'}.md, .json and .png")


if __name__ == "__main__":
    run(main)
