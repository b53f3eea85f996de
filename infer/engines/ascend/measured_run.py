"""The measurements of a run on the NPU, from the processes, the lines they printed and their summaries."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.batches.performance import InferenceResult
from infer.engines.ascend.installed import Installed
from infer.engines.ascend.log_lines import AisLog
from infer.engines.ascend.merged_outputs import PartResult, compute_times
from infer.engines.ascend.om_input import OmPlan
from infer.engines.ascend.parts import Part
from infer.infer_options import InferOptions
from vidom.files import sha256_file
from vidom.system.external_run import Ended

__all__ = ["AscendRun", "measured", "own_facts", "own_lines"]


@dataclass(frozen=True)
class AscendRun:
    """A successful run: its options, the processes that were started, and their results, part by part.

    `plan` is None without input files, `results` empty without an output folder.
    """

    options: InferOptions
    plan: OmPlan | None
    parts: Sequence[Part]
    commands: Sequence[Sequence[str]]
    logs: Sequence[AisLog]
    ended: Sequence[Ended]
    results: Sequence[PartResult]
    installed: Installed

    @property
    def shared(self) -> bool:
        """Whether the files were shared out among several devices, even if one of them got all."""
        return self.parts[0].dirname not in (None, self.options.output_dirname)

    @property
    def batch_size(self) -> int:
        """The batch of the throughput figure: as given, else as ais_bench printed, else as planned."""
        planned = self.plan.spec.rows if self.plan and self.plan.batch_known else None
        return self.options.batchsize or self.logs[0].batch_size or planned or 1

    @property
    def device(self) -> str:
        """The devices and their chip, for a reader."""
        numbers = ",".join(str(part.device) for part in self.parts)
        return f"NPU {numbers} ({self.installed.chip or 'chip unknown: npu-smi does not report it'})"

    @property
    def seconds(self) -> float:
        """From the first device being ready to the last one having saved everything; else the processes' run time."""
        began = [read.began for read in self.logs if read.began is not None]
        done = [read.ended for read in self.logs if read.ended is not None]
        if len(began) == len(done) == len(self.logs) and max(done) > min(began):
            return max(done) - min(began)
        return max(one.seconds for one in self.ended)

    @property
    def padded_rows(self) -> int:
        """Number of rows that were run without being real, from the packing that ais_bench printed."""
        if self.plan is None:
            return 0
        batches, rows_run = self.plan.batches, 0
        for part, read in zip(self.parts, self.logs, strict=True):
            files = read.files_per_batch or batches.files_per_batch
            rows_run += -(-len(part.entries) // files) * files * batches.entries[0][0].rows
        return rows_run - batches.real_rows


def measured(run: AscendRun, summary: Path | None) -> InferenceResult:
    """Return the run as an InferenceResult; without a summary, speeds are those that ais_bench printed."""
    throughputs = [float(one.summary["throughput"]) for one in run.results]
    printed = [read.throughput for read in run.logs if read.throughput is not None]
    times = [compute_times(one.summary) for one in run.results]
    return InferenceResult(
        summary=summary,
        engine="ascend",
        engine_version=run.installed.versions,
        device=run.device,
        batch_size=run.batch_size,
        samples=run.plan.batches.samples if run.plan else run.batch_size * len(run.parts),
        padded_rows=run.padded_rows,
        loop=run.options.loop,
        resumed=0,
        seconds=run.seconds,
        throughput=sum(throughputs or printed),
        compute_ms=tuple(time for part in times for time in part),
        h2d_ms=(),
        d2h_ms=(),
    )


def own_facts(run: AscendRun, result: InferenceResult) -> dict[str, Any]:
    """Return the facts written next to ais_bench's summary, or under `vidom` in a merged one."""
    facts: dict[str, Any] = {
        "engine": result.engine,
        "engine_version": result.engine_version,
        "device": result.device,
        "devices": [part.device for part in run.parts],
        "soc_version": run.installed.chip,
        "cann": run.installed.cann,
        "python": run.installed.bench.python,
        "batch_size": result.batch_size,
        "input_known_from": run.plan.known_from if run.plan else None,
        "model_sha256": sha256_file(run.options.chosen_model),
        "samples": result.samples,
        "padded_rows": result.padded_rows,
        "end_to_end_seconds": result.seconds,
        "samples_per_second": result.samples_per_second,
        "commands": [shlex.join(command) for command in run.commands],
    }
    if run.shared:
        facts["parts"] = [
            {
                "device": one.part.device,
                "files": len(one.entries),
                "throughput": one.summary["throughput"],
                "pid": one.summary["pid"],
            }
            for one in run.results
        ]
    return facts


def own_lines(run: AscendRun, result: InferenceResult) -> list[str]:
    """Return lines that ais_bench does not have: chip and versions, and the rate from input to output files."""
    lines = [
        f"[INFO] device: {result.device}, {result.engine_version}",
        f"[INFO] end to end: {result.samples} samples, {result.padded_rows} padded rows, loop {result.loop}, "
        f"{result.seconds:.3f} s: {result.samples_per_second:.2f} samples/s",
    ]
    if len(run.parts) > 1:
        lines.append(f"[INFO] throughput of {len(run.parts)} devices together: {result.throughput}")
    if run.plan and run.plan.known_from == "the first file":
        lines.append(
            "[INFO] the size of the model's input is unknown (no build.json next to it, no clip store), so the files "
            "were only compared with each other"
        )
    if result.summary:
        lines.append(f"[INFO] summary:{result.summary}")
    return lines
