"""Accuracy and speed by batch size in one table: `python -m benchmarks.batch_table --recipe M --batches 1 4 8 …`.

For each batch size: export, surgery, for an NPU ATC, inference over the clip store, score, pure-performance loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch_table.plot import plot
from benchmarks.batch_table.row import Order, Row, measured_row
from benchmarks.batch_table.table import document, markdown
from benchmarks.measuring.report import check_plotting
from export.deployable import InputDtype
from export.model_options import ModelOptions
from infer.engines.choice import lacking_for_npu
from infer.engines.options import (
    AutoOptions,
    EngineOptions,
    EngineRequest,
    add_engine_options,
    engine_options,
    engine_request,
)
from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.files import write_json, write_text
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import Recipe
from vidom.options import add_options, options_from
from vidom.system.cann import find_atc

__all__ = ["BatchTable", "batch_table", "main"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchTable:
    """The measured rows, the Markdown that shows them, and the folder that holds all."""

    rows: tuple[Row, ...]
    text: str
    output_dir: Path


def batch_table(
    *,
    recipe: Recipe,
    batches: Sequence[int],
    output_dir: Path,
    checkpoint: str = "",
    store: Path | None = None,
    engine: EngineRequest = AutoOptions(),
    soc_version: str | None = None,
    input_dtype: InputDtype = "float32",
    loop: int = 20,
) -> BatchTable:
    """`output_dir` holds `batch_table.md`, `.json` and `.png` with a row for each batch size, all measured here.

    Killed and started again, it keeps the rows that were finished. Without `store` only fps is measured. `engine` auto
    is ascend where an NPU, ais_bench and ATC are here. Raises UsageError for batch sizes that are none, and what the
    stages raise; rows that were measured until then are kept.
    """
    if not batches or min(batches) < 1 or len(set(batches)) != len(batches):
        raise UsageError(
            f"--batches takes different batch sizes of at least 1, found {' '.join(map(str, batches))}."
        )
    if loop < 1:
        raise UsageError(f"--loop must be at least 1, found {loop}.")
    check_plotting()
    order = Order(
        recipe=recipe,
        checkpoint=checkpoint,
        input_dtype=input_dtype,
        store=ClipStore.open(store).folder if store else None,
        engine=_engine(engine),
        soc_version=soc_version,
        loop=loop,
        output_dir=output_dir,
    )
    rows = []
    for number, batch_size in enumerate(batches, 1):
        _log.info(f"[{number}/{len(batches)}] batch {batch_size}, engine {order.engine.name}")
        rows.append(measured_row(order, batch_size))
    text = markdown(order, rows)
    write_text(output_dir / "batch_table.md", text)
    write_json(output_dir / "batch_table.json", document(order, rows))
    plot(output_dir / "batch_table.png", order, rows)
    return BatchTable(tuple(rows), text, output_dir)


def _engine(request: EngineRequest) -> EngineOptions:
    if not isinstance(request, AutoOptions):
        return request
    lacking = lacking_for_npu() or ("" if find_atc() else "atc is not on PATH")
    _log.info(
        f"engine {'onnxruntime' if lacking else 'ascend'}: {lacking or 'NPU, ais_bench and atc are here'}"
    )
    return engine_options("onnxruntime" if lacking else "ascend", request.given)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, measure and print the table."""
    parser = Parser(
        prog="python -m benchmarks.batch_table", description="Accuracy and speed by batch size, in one table."
    )
    add_options(parser, ModelOptions)
    add = parser.add_argument
    add("--batches", nargs="+", type=int, default=[1, 4, 8, 16, 32], metavar="N", help="batch sizes")
    add("--store", type=Path, help="clip store for accuracy and end-to-end speed; without it fps alone")
    add_engine_options(parser)
    add("--soc_version", help="chip to compile for; else the one npu-smi shows")
    add("--loop", type=int, default=20, help="executions of the pure-performance loop")
    add("--output_dir", type=Path, required=True, help="where models, results and the table go")
    options = parser.parse_args(argv)
    model = options_from(ModelOptions, vars(options))
    table = batch_table(
        recipe=model.recipe,
        batches=options.batches,
        output_dir=options.output_dir,
        checkpoint=model.checkpoint,
        store=options.store,
        engine=engine_request(vars(options)),
        soc_version=options.soc_version,
        input_dtype=model.input_dtype,
        loop=options.loop,
    )
    print(table.text, end="")
    _log.info(f"table, numbers and picture are {table.output_dir / 'batch_table'}.md, .json and .png")


if __name__ == "__main__":
    run(main)
