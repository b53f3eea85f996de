"""The roofline of a run as tables: peaks of the machine, costs of the graph, and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.measuring.report import Cell, Report, Table
from benchmarks.measuring.settings import machine_state
from benchmarks.roofline.machine_peaks import Kernel, Peaks, peaks
from benchmarks.roofline.operator_costs import OpCost
from benchmarks.roofline.published_devices import theoretical_tables
from vidom.files import human_bytes
from vidom.formats.recipe import Recipe

__all__ = ["MeasuredRun", "roofline_report"]


@dataclass(frozen=True)
class MeasuredRun:
    """A graph's costs, the seconds of its fastest run, and those of the interleaved kernels, by name.

    `exported` are the costs before surgery, which published speeds refer to; `nodes` are the seconds of each operator
    type in a profiled run.
    """

    recipe: Recipe
    batch: int
    costs: tuple[OpCost, ...]
    exported: tuple[OpCost, ...]
    seconds: float
    nodes: Mapping[str, float]
    ran: Sequence[Kernel]
    kernel_seconds: Mapping[str, float]
    rounds: int

    @cached_property
    def peaks(self) -> Peaks:
        """The best of the kernels."""
        return peaks(self.ran, self.kernel_seconds)

    @property
    def flops(self) -> int:
        """Floating-point operations of one run."""
        return sum(cost.flops for cost in self.costs)

    @property
    def moved_bytes(self) -> int:
        """Bytes of one run if every operator reads and writes memory."""
        return sum(cost.moved_bytes for cost in self.costs)

    @property
    def heavy_bytes(self) -> int:
        """Bytes of the convolutions and matrix products, which a runtime may fuse the rest into."""
        return sum(cost.moved_bytes for cost in self.costs if cost.flops)

    @property
    def by_kind(self) -> dict[str, list[OpCost]]:
        """The operators that move bytes, by kind, those with the most arithmetic first."""
        kinds: dict[str, list[OpCost]] = {}
        for cost in self.costs:
            if cost.moved_bytes:
                kinds.setdefault(cost.kind, []).append(cost)
        return dict(sorted(kinds.items(), key=lambda item: -sum(cost.flops for cost in item[1])))


def roofline_report(measured: MeasuredRun) -> Report:
    """Return the report; it has no targets, because no share of a peak is required."""
    return Report(
        name="roofline",
        question=(
            f"How far is {measured.recipe.name}, batch {measured.batch}, in ONNX Runtime from the peaks of this "
            "machine, and how far are published speeds from the peaks of their device?"
        ),
        tables=[
            _machine_table(measured),
            _graph_table(measured),
            _run_table(measured),
            _node_table(measured),
            *theoretical_tables(measured.recipe, measured.exported, samples=measured.batch),
        ],
        targets=[],
        conditions={"rounds": measured.rounds, "weights": "random (seeded)", **machine_state()},
    )


def _machine_table(measured: MeasuredRun) -> Table:
    rows: list[Sequence[Cell]] = []
    for kernel in measured.ran:
        seconds = measured.kernel_seconds[kernel.name]
        rows.append((
            kernel.name,
            kernel.flops / seconds / 1e9 if kernel.flops else None,
            kernel.moved_bytes / seconds / 1e9 if kernel.moved_bytes else None,
        ))  # fmt: skip
    found = measured.peaks
    largest = max(kernel.moved_bytes for kernel in measured.ran)
    return Table(
        "Peaks of this machine",
        ["kernel", "GFLOP/s", "GB/s"],
        rows,
        f"The maximum of each column is the peak: {found.flops / 1e9:.4g} GFLOP/s in float32 ({found.gemm}) and "
        f"{found.bandwidth / 1e9:.4g} GB/s ({found.stream}; {human_bytes(largest)} at most, more than "
        f"any cache). Below {found.flops / found.bandwidth:.3g} FLOP per byte the memory is the limit, above it "
        "arithmetic.",
    )


def _graph_table(measured: MeasuredRun) -> Table:
    rows = []
    for kind, costs in measured.by_kind.items():
        flops, moved = (sum(getattr(cost, what) for cost in costs) for what in ("flops", "moved_bytes"))
        arithmetic, memory = flops / measured.peaks.flops, moved / measured.peaks.bandwidth
        rows.append(
            (kind, len(costs), flops / 2e9, moved / 1e9, flops / moved,
             "arithmetic" if arithmetic > memory else "memory", _least(measured, costs))
        )  # fmt: skip
    return Table(
        "Costs of the graph",
        ["operators", "number", "G multiply-adds", "GB", "FLOP per byte", "bound by", "lower bound, s"],
        rows,
        f"In total {measured.flops / 2e9:.4g} G multiply-adds, or {measured.flops / 1e9:.4g} GFLOP. Bytes are those of "
        "unfused operators; additions and ReLUs that the runtime fuses into a convolution move no bytes, and a large "
        "cache reduces them further. lower bound: the sum over operators of arithmetic or memory time at the peak, "
        "whichever is longer.",
    )


def _run_table(measured: MeasuredRun) -> Table:
    seconds, found = measured.seconds, measured.peaks
    moved = measured.heavy_bytes
    least = _least(measured, [cost for cost in measured.costs if cost.flops])
    return Table(
        "The run",
        ["", "measured", "share of the peak"],
        [
            ("fastest run, s", seconds, None),
            (
                "arithmetic, GFLOP/s",
                measured.flops / seconds / 1e9,
                f"{measured.flops / seconds / found.flops:.1%}",
            ),
            (
                "memory, convolutions and matrix products alone, GB/s",
                moved / seconds / 1e9,
                f"{moved / seconds / found.bandwidth:.1%}",
            ),
            (
                "memory, all unfused operators, GB/s",
                measured.moved_bytes / seconds / 1e9,
                f"{measured.moved_bytes / seconds / found.bandwidth:.1%}",
            ),
            (
                "lower bound of convolutions and matrix products, s",
                least,
                f"{least / seconds:.1%} of the run",
            ),
        ],
        "Shares above 100 % are possible: of arithmetic, if a convolution's kernel is faster than the matrix products; "
        "of memory, if an operator's input was still in the cache or in registers.",
    )


def _node_table(measured: MeasuredRun) -> Table:
    total = sum(measured.nodes.values())
    return Table(
        "ONNX Runtime's operators",
        ["operator", "s", "share"],
        [
            (name, spent, f"{spent / total:.1%}")
            for name, spent in measured.nodes.items()
            if spent > total / 1000
        ],
        "Of a profiled run, by the operators after its own graph optimization; those below a thousandth are omitted.",
    )


def _least(measured: MeasuredRun, costs: Sequence[OpCost]) -> float:
    return sum(measured.peaks.least_seconds(cost.flops, cost.moved_bytes) for cost in costs)
