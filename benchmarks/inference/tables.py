"""The inference benchmark's tables and bars: computed from the rows that were measured, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.inference.growth import Growth
from benchmarks.inference.rows import Measured, Row
from benchmarks.inference.variants import gpu_at_hand
from benchmarks.measuring.report import Bar, Cell, Report, Table
from benchmarks.measuring.settings import machine_state

__all__ = ["bars_of", "report_of", "table_of"]

QUESTION = (
    "How fast does a network run: in torch, as mmaction2 exports it, as vidom exports it, after surgery, and without "
    "what surgery can at best remove?"
)
_COLUMNS = (
    *("engine", "graph", "precision", "operators", "Slice", "seconds", "samples/s", "times the peer"),
    *("beside convolutions, %", "max logit difference from torch", "top-1 flips of bf16"),
)
_NOTE = (
    "seconds: fastest run of a batch, the ways in turn, one in memory at a time. times the peer: ONNX Runtime's "
    "seconds on the {peer} graph over these. beside convolutions: share of ONNX Runtime's node time. Inputs are "
    "seeded normal numbers, weights stand-ins; flips are counted against float32 of the same engine and graph."
)
_NO_GPU = "No CUDA device was at hand for torch or ONNX Runtime, so none of these numbers is a GPU's."
_CHANCE = 0.98
"""Of two graphs of the same speed, one is slower by chance."""
_QUOTED: tuple[tuple[str, str, float, str, str], ...] = (
    (
        "tsm_sthv2",
        "mmaction2 0.24.1, torch 2.13",
        2.05,
        "2 vCPU, AMD EPYC",
        "1×48×3×256×256, allocator as here",
    ),
    (
        "tsm_k400",
        "mmaction2 0.24.1, torch 2.13",
        0.276,
        "2 vCPU, AMD EPYC",
        "1×8×3×224×224, allocator as here",
    ),
    (
        "i3d_k400",
        "mmaction2 0.24.1, torch 2.13",
        0.318,
        "2 vCPU, AMD EPYC",
        "1×3×32×224×224, allocator as here",
    ),
    ("pptsm_k400_uniform", "Paddle 2.6.2, static, oneDNN", 0.498, "2 vCPU, AMD EPYC", "1×8×3×224×224"),
    ("pptsm_k400_uniform", "Paddle 2.3.1", 1.354, "Xeon 6148", "PaddleVideo, docs/zh-CN/benchmark.md"),
    ("stnet_k400", "MindSpore 2.7.0, graph mode", 0.586, "2 vCPU, AMD EPYC", "1×7×15×224×224"),
)


def report_of(cases: Sequence[Measured], growth: Growth | None, *, rounds: int) -> Report:
    """Return the tables of all cases, what others measured, the growth, and the bars."""
    tables = [*map(table_of, cases), *_quoted(cases), *([growth.table] if growth else [])]
    bars = [bar for case in cases for bar in bars_of(case)]
    conditions = {**machine_state(), "rounds": rounds, "GPU": ", ".join(gpu_at_hand()) or "none at hand"}
    return Report("inference", QUESTION, tables, bars, conditions)


def table_of(case: Measured) -> Table:
    """Return a line for each way, and one that says so where there was no GPU."""
    peer = case.row("ONNX Runtime", case.subject.peer)
    rows = [_cells(row, case, peer) for row in case.rows]
    if not any(row.way.gpu for row in case.rows):
        rows.append(("GPU", "not measured: none at hand", *[None] * (len(_COLUMNS) - 2)))
    note = _NOTE.format(peer=case.subject.peer)
    return Table(case.subject.name, _COLUMNS, rows, note if gpu_at_hand() else f"{note} {_NO_GPU}")


def _cells(row: Row, case: Measured, peer: Row | None) -> tuple[Cell, ...]:
    share = row.beside_convolutions
    return (
        f"{row.way.engine} (CUDA)" if row.way.gpu else row.way.engine,
        row.way.graph,
        row.way.precision,
        row.operators,
        row.slices,
        row.seconds,
        case.subject.batch / row.seconds,
        peer.seconds / row.seconds if peer else None,
        None if share is None else 100 * share,
        row.logits,
        None if row.flips is None else "{} of {}".format(*row.flips),
    )


def bars_of(case: Measured) -> tuple[Bar, ...]:
    """Return the bars that the measured ways of the case allow to judge, each found from their seconds."""
    return tuple(_tsm_bars(case) if case.subject.peer == "naive" else _other_bars(case))


def _tsm_bars(case: Measured) -> Iterator[Bar]:
    ours, naive = case.row("ONNX Runtime", "modified"), case.row("ONNX Runtime", "naive")
    still, eager = case.row("ONNX Runtime", "no shift"), case.row("torch eager", "network")
    vino = case.row("OpenVINO", "naive")
    rough, ours_rough = (case.row("OpenVINO", graph, "bf16") for graph in ("naive", "modified"))
    name = case.subject.name
    yield from _faster(f"{name}: modified against mmaction2's naive graph", naive, ours, 1.15)
    if still and ours:
        what = f"{name}: modified, seconds over those of the graph without any shift"
        yield Bar(what, ours.seconds / still.seconds, 1.06, at_least=False)
    if ours and ours.beside_convolutions is not None:
        what = f"{name}: modified, share of node time beside convolutions"
        yield Bar(what, ours.beside_convolutions, 0.07, at_least=False)
    yield from _faster(f"{name}: modified against torch eager", eager, ours, 1.6)
    yield from _faster(f"{name}: modified against OpenVINO f32 on the naive graph", vino, ours, 1.2)
    yield from _faster(f"{name}: OpenVINO bf16, modified against naive graph", rough, ours_rough, 1.2)


def _other_bars(case: Measured) -> Iterator[Bar]:
    ours, exported = (case.row("ONNX Runtime", graph) for graph in ("modified", "exported"))
    what = f"{case.subject.name}: modified against the unmodified export, {_CHANCE} allowing for chance"
    yield from _faster(what, exported, ours, _CHANCE)


def _faster(what: str, peer: Row | None, ours: Row | None, wanted: float) -> Iterator[Bar]:
    if peer and ours:
        yield Bar(f"{what}, times as fast", peer.seconds / ours.seconds, wanted)


def _quoted(cases: Sequence[Measured]) -> Iterator[Table]:
    names = {case.subject.recipe.name for case in cases}
    lines = [line for line in _QUOTED if line[0] in names]
    if lines:
        yield Table(
            "The original frameworks, batch 1, measured elsewhere",
            ("recipe", "framework", "seconds", "machine", "input, or source"),
            lines,
            "Another machine: these are no peers of the rows above, only what a user of the original waits for.",
        )
