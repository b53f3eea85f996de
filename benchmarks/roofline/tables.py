"""The roofline of a run as tables: what the machine gives, what the graph asks, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.measuring.report import Cell, Report, Table
from benchmarks.measuring.settings import machine_state
from benchmarks.roofline.machine_peaks import Kernel, Peaks, peaks
from benchmarks.roofline.operator_costs import OpCost
from benchmarks.roofline.published_devices import on_paper
from vidom.files import human_bytes
from vidom.formats.recipe import Recipe

__all__ = ["MeasuredRun", "roofline_report"]


@dataclass(frozen=True)
class MeasuredRun:
    """A graph's costs, the seconds of its fastest run, and those of the kernels that took turns with it, by name.

    `exported` are the costs before surgery, to which what others published is held; `nodes` are the seconds of each
    kind of operator within a profiled run.
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
        """Bytes of one run in which every operator reads and writes memory."""
        return sum(cost.moved_bytes for cost in self.costs)

    @property
    def heavy_bytes(self) -> int:
        """Those of them that convolutions and matrix products move, in which a runtime may do the rest."""
        return sum(cost.moved_bytes for cost in self.costs if cost.flops)

    @property
    def by_kind(self) -> dict[str, list[OpCost]]:
        """The operators that move something, by kind, those with the most arithmetic first."""
        kinds: dict[str, list[OpCost]] = {}
        for cost in self.costs:
            if cost.moved_bytes:
                kinds.setdefault(cost.kind, []).append(cost)
        return dict(sorted(kinds.items(), key=lambda item: -sum(cost.flops for cost in item[1])))


def roofline_report(measured: MeasuredRun) -> Report:
    """Return the report; it has no bars, for no share of a peak is promised."""
    return Report(
        name="roofline",
        question=(
            f"How far is {measured.recipe.name}, batch {measured.batch}, in ONNX Runtime from what this machine can "
            "do, and how far are published speeds from what their card can do?"
        ),
        tables=[
            _machine_table(measured),
            _graph_table(measured),
            _run_table(measured),
            _node_table(measured),
            *on_paper(measured.recipe, measured.exported, samples=measured.batch),
        ],
        bars=[],
        conditions={"rounds": measured.rounds, "weights": "stand-ins", **machine_state()},
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
        "What this machine gives",
        ["kernel", "GFLOP/s", "GB/s"],
        rows,
        f"The best of each column is the peak: {found.flops / 1e9:.4g} GFLOP/s in float32 ({found.gemm}) and "
        f"{found.bandwidth / 1e9:.4g} GB/s ({found.stream}; {human_bytes(largest)} at most, so that no cache holds "
        f"it). Below {found.flops / found.bandwidth:.3g} FLOP a byte the memory is the limit, above it arithmetic.",
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
        "What the graph asks",
        ["operators", "number", "G multiply-adds", "GB", "FLOP a byte", "bound by", "least s"],
        rows,
        f"In all {measured.flops / 2e9:.4g} G multiply-adds, or {measured.flops / 1e9:.4g} GFLOP. Bytes are those of "
        "operators one by one; additions and ReLUs that the runtime does within a convolution cost no memory, and a "
        "large cache spares more. least s: the sum over operators of arithmetic or memory at its peak, whichever is "
        "longer.",
    )


def _run_table(measured: MeasuredRun) -> Table:
    seconds, found = measured.seconds, measured.peaks
    moved = measured.heavy_bytes
    least = _least(measured, [cost for cost in measured.costs if cost.flops])
    return Table(
        "What became of it",
        ["", "found", "share of the peak"],
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
                "memory, every operator by itself, GB/s",
                measured.moved_bytes / seconds / 1e9,
                f"{measured.moved_bytes / seconds / found.bandwidth:.1%}",
            ),
            ("least time of convolutions and matrix products, s", least, f"{least / seconds:.1%} of the run"),
        ],
        "Shares above 100 % are possible: of arithmetic, where a convolution's kernel is better than the matrix "
        "products; of memory, where what an operator needs was still in the cache or never left the registers.",
    )


def _node_table(measured: MeasuredRun) -> Table:
    total = sum(measured.nodes.values())
    return Table(
        "Where ONNX Runtime spends it",
        ["operator", "s", "share"],
        [
            (name, spent, f"{spent / total:.1%}")
            for name, spent in measured.nodes.items()
            if spent > total / 1000
        ],
        "Of a profiled run, by the operators that are left after its own rewriting; those below a thousandth are left "
        "out.",
    )


def _least(measured: MeasuredRun, costs: Sequence[OpCost]) -> float:
    return sum(measured.peaks.least_seconds(cost.flops, cost.moved_bytes) for cost in costs)
