"""The measurements of a run, and the lines in which ais_bench prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from infer.batches.batch_plan import BatchPlan
from infer.batches.journal import BatchRecord, RunJournal
from infer.engines.base import ArrayEngine
from infer.engines.tensor_specs import TensorSpec
from infer.precision_check import PrecisionCheck
from vidom.formats.engine_outputs import time_statistics

__all__ = ["InferenceResult", "measured", "own_lines", "packing_line", "session_text", "summary_lines"]


@dataclass(frozen=True)
class InferenceResult:
    """A finished run: its summary (None without an output folder) and its measurements.

    `throughput` is ais_bench's figure, samples per second of the execution alone: 1000 * batch_size / mean of
    `compute_ms`, for several devices the sum of theirs. It excludes reading and writing and counts padding. `samples`
    are real ones, each run `loop` times; `seconds` is the wall time of their batches from the first byte read to the
    last one written, in whichever process, without loading and warm-up. `resumed` counts the batches that an earlier,
    killed run had finished. Times of which ais_bench printed only the mean are an empty tuple. `device` and
    `engine_version` are descriptions for a reader. `precision_check` is set for bf16 only.
    """

    summary: Path | None
    engine: str
    engine_version: str
    device: str
    batch_size: int
    samples: int
    padded_rows: int
    loop: int
    resumed: int
    seconds: float
    throughput: float
    compute_ms: tuple[float, ...]
    h2d_ms: tuple[float, ...]
    d2h_ms: tuple[float, ...]
    precision_check: PrecisionCheck | None = None

    @property
    def samples_per_second(self) -> float:
        """Executions of real samples per second of wall time."""
        return self.samples * self.loop / self.seconds


def measured(
    engine: ArrayEngine,
    records: Sequence[BatchRecord],
    plan: BatchPlan,
    journal: RunJournal | None,
    *,
    loop: int,
    batch_size: int,
) -> InferenceResult:
    """Return the result of a run from the records of all its batches, in order."""
    compute_ms = tuple(chain.from_iterable(record.compute_ms for record in records))
    return InferenceResult(
        summary=journal.summary if journal else None,
        engine=engine.name,
        engine_version=engine.version,
        device=engine.device,
        batch_size=batch_size,
        samples=plan.samples,
        padded_rows=plan.padded_rows,
        loop=loop,
        resumed=len(journal.done) if journal else 0,
        seconds=sum(record.seconds for record in records),
        throughput=1000 * batch_size / time_statistics(compute_ms)["mean"],
        compute_ms=compute_ms,
        h2d_ms=tuple(record.h2d_ms for record in records),
        d2h_ms=tuple(record.d2h_ms for record in records),
    )


def session_text(engine: ArrayEngine) -> str:
    """Return what ais_bench's --debug prints about the model: name, shape, dtype and bytes of each tensor."""
    parts = ["[DEBUG] session info:"]
    for kind, specs in (("input", engine.inputs), ("output", engine.outputs)):
        parts.append(f"{kind}:")
        parts += [
            f"  #{number}    {spec.name}  {spec.shape}  {spec.dtype}  {spec.nbytes}"
            for number, spec in enumerate(specs)
        ]
    return "\n".join(parts)


def packing_line(plan: BatchPlan, spec: TensorSpec) -> str:
    """Return ais_bench's line on how files form batches; `spec` is the first input's."""
    return (
        f"[INFO] get filesperbatch files0 size:{plan.entries[0][0].bytes} tensor0size:{spec.nbytes} "
        f"filesperbatch:{plan.files_per_batch} runcount:{plan.runs}"
    )


def summary_lines(result: InferenceResult, *, everything: bool) -> list[str]:
    """Return ais_bench's performance summary; `everything` adds both copying times, as its option does."""
    times = {"NPU_compute_time": result.compute_ms}
    if everything:
        times = {"H2D_latency": result.h2d_ms, **times, "D2H_latency": result.d2h_ms}
    mean = time_statistics(result.compute_ms)["mean"]
    return [
        "[INFO] -----------------Performance Summary------------------",
        *(f"[INFO] {name} (ms): {_statistics(values)}" for name, values in times.items()),
        f"[INFO] throughput 1000*batchsize.mean({result.batch_size})/NPU_compute_time.mean({mean}): "
        f"{result.throughput}",
        "[INFO] ------------------------------------------------------",
    ]


def own_lines(result: InferenceResult, engine: ArrayEngine) -> list[str]:
    """Return lines that ais_bench does not have: the actual device, and the rate from input to output files."""
    lines = [
        f"[INFO] device: {engine.device} {engine.version}, {engine.threads} threads; {engine.clock}",
        f"[INFO] end to end: {result.samples} samples, {result.padded_rows} padded rows, loop {result.loop}, "
        f"{result.seconds:.3f} s: {result.samples_per_second:.2f} samples/s",
    ]
    if result.precision_check:
        lines.append(f"[INFO] {result.precision_check.text}")
        if result.precision_check.samples < result.precision_check.of:
            lines.append("[INFO] --check all computes all samples in f32 too.")
    if result.resumed:
        lines.append(f"[INFO] {result.resumed} batches had been finished by an earlier run")
    if result.summary:
        lines.append(f"[INFO] summary:{result.summary}")
    return lines


def _statistics(values: Sequence[float]) -> str:
    found = time_statistics(values)
    return ", ".join(f"{name} = {value}" for name, value in found.items() if name != "count")
