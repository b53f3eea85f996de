"""How far a run is from what the machine can do: `python -m benchmarks.roofline --recipe tsm_sthv2`.

S. Williams, A. Waterman, D. Patterson, Roofline, Communications of the ACM 52 (2009): no run is faster than its
arithmetic at the machine's peak, or its bytes at the memory's bandwidth, whichever takes longer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.inference.variants import built
from benchmarks.measuring.graph_times import sample_of
from benchmarks.measuring.node_time import node_seconds
from benchmarks.measuring.report import Report, check_plotting, write_report
from benchmarks.measuring.rotation import rotate
from benchmarks.measuring.settings import under_fair_settings
from benchmarks.roofline.machine_peaks import kernels
from benchmarks.roofline.operator_costs import op_costs
from benchmarks.roofline.plot import plot_roofline
from benchmarks.roofline.tables import MeasuredRun, roofline_report
from export.surgery.model_file import load_model
from infer.engines.open import open_engine
from infer.engines.options import OnnxRuntimeOptions
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import Recipe, load_recipe
from vidom.system.machine import look_at_machine, usable_cores

__all__ = ["main", "roofline"]

_log = logging.getLogger(__name__)


def roofline(
    *, output_dir: Path, recipe: Recipe, batch_size: int = 1, rounds: int = 5, array_bytes: int = 1 << 30
) -> Report:
    """`output_dir` holds `roofline.md`, `.json` and `.png` on `recipe`'s modified graph in ONNX Runtime.

    Weights are stand-ins, for times do not depend on training; of I3D it is one view. Graph, matrix products and memory
    streams take turns. Raises UnavailableError without matplotlib or with too little memory, CheckFailedError when surgery
    changes what the graph computes.
    """
    if batch_size < 1 or array_bytes < 1 << 10:
        raise UsageError("--batch_size must be at least 1, and --array_gb more than nothing.")
    check_plotting()
    recipe = recipe.one_view() if recipe.network.arch == "i3d" else recipe
    _log.info(f"exporting {recipe.name} …")
    exported, model = built(recipe, batch_size, output_dir / "graphs" / f"{recipe.name}_bs{batch_size}")
    threads, sample = usable_cores(), sample_of(model)
    memory = look_at_machine(output_dir).memory_bytes
    ran = kernels(threads=threads, array_bytes=array_bytes, memory_bytes=memory)
    engine = open_engine(model, OnnxRuntimeOptions(threads=threads))
    graph = partial(engine.execute, engine.upload(list(sample.values())))
    _log.info(f"{rounds} rounds …")
    seconds = rotate({model.name: graph, **{kernel.name: kernel.work for kernel in ran}}, rounds=rounds)
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
    """Read the command line, measure, print the report."""
    parser = Parser(
        prog="python -m benchmarks.roofline", description="A run against what machine and card can do."
    )
    add = parser.add_argument
    add("--recipe", default="tsm_sthv2", help="name in om_models/ or path of a .yaml")
    add("--batch_size", type=int, default=1, help="samples of a run")
    add("--rounds", type=int, default=5, help="how often graph and kernels take their turn")
    add(
        "--array_gb",
        type=float,
        default=1.0,
        help="each of three arrays for the memory's speed, in 2**30 bytes",
    )
    add("--output_dir", type=Path, default=Path("run/bench"), help="where report, picture and graphs go")
    options = parser.parse_args(argv)
    report = roofline(
        output_dir=options.output_dir,
        recipe=load_recipe(options.recipe),
        batch_size=options.batch_size,
        rounds=options.rounds,
        array_bytes=int(options.array_gb * (1 << 30)),
    )
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
