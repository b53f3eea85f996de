"""A run compared with the machine's peaks: `python -m benchmarks.roofline --recipe tsm_sthv2`.

S. Williams, A. Waterman, D. Patterson, Roofline, Communications of the ACM 52 (2009): the time of a run is at least
that of its arithmetic at the machine's peak and that of its bytes at the memory's bandwidth.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.inference.variants import built
from benchmarks.measuring.graph_times import sample_of
from benchmarks.measuring.interleaved import interleave
from benchmarks.measuring.node_time import node_seconds
from benchmarks.measuring.report import Report, check_plotting, reported, write_report
from benchmarks.measuring.settings import under_fair_settings
from benchmarks.roofline.machine_peaks import kernels
from benchmarks.roofline.operator_costs import op_costs
from benchmarks.roofline.plot import plot_roofline
from benchmarks.roofline.tables import MeasuredRun, roofline_report
from export.surgery.model_file import load_model
from infer.engines.engine_options import OnnxRuntimeOptions
from infer.engines.open import open_engine
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import load_recipe
from vidom.options import option, read_options
from vidom.system.machine import look_at_machine, usable_cores

__all__ = ["RooflineOptions", "main", "roofline"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RooflineOptions:
    """Compare a run with the peaks of this machine and of published devices."""

    recipe: str = option("name in om_models/, or path of a .yaml file", default="tsm_sthv2")
    batch_size: int = option("samples of a run", default=1)
    rounds: int = option("interleaved runs of the graph and the kernels", default=5)
    array_gb: float = option(
        "size of each of three arrays for the memory bandwidth, in 2**30 bytes", default=1.0
    )
    output_dir: Path = option("folder of the report, figure and graphs", default=Path("run/bench"))

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.array_bytes < 1 << 10:
            raise UsageError("--batch_size must be at least 1, and --array_gb more than 0.")

    @property
    def array_bytes(self) -> int:
        """Bytes of an array."""
        return int(self.array_gb * (1 << 30))


def roofline(options: RooflineOptions) -> Report:
    """Write `roofline.md`, `.json` and `.png` on the recipe's modified graph in ONNX Runtime; return the report.

    The weights are random, because times do not depend on training; of I3D it is one view. Graph, matrix products and
    memory streams are interleaved. Raises UnavailableError without matplotlib or with too little memory,
    CheckFailedError when surgery changes the results of the graph.
    """
    check_plotting()
    output_dir, rounds, batch_size = options.output_dir, options.rounds, options.batch_size
    recipe = load_recipe(options.recipe)
    recipe = recipe.one_view() if recipe.network.arch == "i3d" else recipe
    _log.info(f"exporting {recipe.name} …")
    exported, model = built(recipe, batch_size, output_dir / "graphs" / f"{recipe.name}_bs{batch_size}")
    threads, sample = usable_cores(), sample_of(model)
    memory = look_at_machine(output_dir).memory_bytes
    ran = kernels(threads=threads, array_bytes=options.array_bytes, memory_bytes=memory)
    engine = open_engine(model, OnnxRuntimeOptions(threads=threads))
    graph = partial(engine.execute, engine.upload(list(sample.values())))
    _log.info(f"{rounds} rounds …")
    seconds = interleave({model.name: graph, **{kernel.name: kernel.work for kernel in ran}}, rounds=rounds)
    measured = MeasuredRun(
        recipe=recipe,
        batch=batch_size,
        costs=op_costs(load_model(model)),
        exported=op_costs(load_model(exported)),
        seconds=seconds[model.name],
        nodes=node_seconds(model, sample, threads),
        ran=ran,
        kernel_seconds=seconds,
        rounds=rounds,
    )
    report = roofline_report(measured)
    write_report(report, output_dir, plot=partial(plot_roofline, measured=measured))
    return report


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report."""
    return reported(roofline, read_options(RooflineOptions, argv, prog="python -m benchmarks.roofline"))


if __name__ == "__main__":
    under_fair_settings()
    run(main)
