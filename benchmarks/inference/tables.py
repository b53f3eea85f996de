"""Tables and targets of the inference benchmark, computed from the measured rows only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.inference.rows import Measured, Row
from benchmarks.inference.scaling import Scaling
from benchmarks.inference.variants import gpu_engines
from benchmarks.measuring.report import Cell, Report, Table, Target
from benchmarks.measuring.settings import machine_state

__all__ = ["report_of", "table_of", "targets_of"]

QUESTION = (
    "How fast is a network in torch, as exported by mmaction2, as exported by vidom, after surgery, and without the "
    "operators that surgery can remove at best?"
)
_COLUMNS = (
    *("engine", "graph", "precision", "operators", "Slice", "seconds", "samples/s", "speedup"),
    *("non-convolution share, %", "max logit difference from torch", "top-1 flips of bf16"),
)
_NOTE = (
    "seconds: fastest run of a batch, variants interleaved, one in memory at a time. speedup: over ONNX Runtime on the "
    "{peer} graph. non-convolution share: of ONNX Runtime's node time. Inputs are seeded normal numbers, weights are "
    "random (seeded); flips are counted against float32 of the same engine and graph."
)
_NO_GPU = "Without a CUDA device for torch or ONNX Runtime; all numbers are from the CPU."
_NOISE = 0.98
"""Required speedup of graphs of equal speed."""
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


def report_of(cases: Sequence[Measured], scaling: Scaling | None, *, rounds: int) -> Report:
    """Return the tables of all cases, published measurements and the scaling, and the targets."""
    tables = [*map(table_of, cases), *_quoted(cases), *([scaling.table] if scaling else [])]
    targets = [target for case in cases for target in targets_of(case)]
    conditions = {**machine_state(), "rounds": rounds, "GPU": ", ".join(gpu_engines()) or "none"}
    return Report("inference", QUESTION, tables, targets, conditions)


def table_of(case: Measured) -> Table:
    """Return a row for each variant, and one for the GPU if there is none."""
    peer = case.row("ONNX Runtime", case.subject.peer)
    rows = [_cells(row, case, peer) for row in case.rows]
    if not any(row.variant.gpu for row in case.rows):
        rows.append(("GPU", "not measured (no GPU)", *[None] * (len(_COLUMNS) - 2)))
    note = _NOTE.format(peer=case.subject.peer)
    return Table(case.subject.name, _COLUMNS, rows, note if gpu_engines() else f"{note} {_NO_GPU}")


def _cells(row: Row, case: Measured, peer: Row | None) -> tuple[Cell, ...]:
    share = row.non_convolution_share
    return (
        f"{row.variant.engine} (CUDA)" if row.variant.gpu else row.variant.engine,
        row.variant.graph,
        row.variant.precision,
        row.operators,
        row.slices,
        row.seconds,
        case.subject.batch / row.seconds,
        peer.seconds / row.seconds if peer else None,
        None if share is None else 100 * share,
        row.logits,
        None if row.flips is None else "{} of {}".format(*row.flips),
    )


def targets_of(case: Measured) -> tuple[Target, ...]:
    """Return the targets that can be checked with the measured variants of the case."""
    return tuple(_tsm_targets(case) if case.subject.peer == "naive" else _other_targets(case))


def _tsm_targets(case: Measured) -> Iterator[Target]:
    ours, naive = case.row("ONNX Runtime", "modified"), case.row("ONNX Runtime", "naive")
    still, eager = case.row("ONNX Runtime", "no shift"), case.row("torch eager", "network")
    vino = case.row("OpenVINO", "naive")
    rough, ours_rough = (case.row("OpenVINO", graph, "bf16") for graph in ("naive", "modified"))
    name = case.subject.name
    yield from _faster(f"{name}: modified, speedup over mmaction2's naive graph", naive, ours, 1.15)
    if still and ours:
        what = f"{name}: modified, seconds over those of the graph without shift"
        yield Target(what, ours.seconds / still.seconds, 1.06, at_least=False)
    if ours and ours.non_convolution_share is not None:
        what = f"{name}: modified, share of non-convolution node time"
        yield Target(what, ours.non_convolution_share, 0.07, at_least=False)
    yield from _faster(f"{name}: modified, speedup over torch eager", eager, ours, 1.6)
    yield from _faster(f"{name}: modified, speedup over OpenVINO f32 on the naive graph", vino, ours, 1.2)
    yield from _faster(
        f"{name}: OpenVINO bf16, modified, speedup over the naive graph", rough, ours_rough, 1.2
    )


def _other_targets(case: Measured) -> Iterator[Target]:
    ours, exported = (case.row("ONNX Runtime", graph) for graph in ("modified", "exported"))
    what = f"{case.subject.name}: modified, speedup over the unmodified export ({_NOISE} allows for noise)"
    yield from _faster(what, exported, ours, _NOISE)


def _faster(what: str, peer: Row | None, ours: Row | None, required: float) -> Iterator[Target]:
    if peer and ours:
        yield Target(what, peer.seconds / ours.seconds, required)


def _quoted(cases: Sequence[Measured]) -> Iterator[Table]:
    names = {case.subject.recipe.name for case in cases}
    lines = [line for line in _QUOTED if line[0] in names]
    if lines:
        yield Table(
            "The original frameworks, batch 1, measured elsewhere",
            ("recipe", "framework", "seconds", "machine", "input, or source"),
            lines,
            "Measured on a different machine: not comparable with the rows above, for orientation only.",
        )
