"""What ais_bench prints while it runs: how it packs, when it starts and ends, how fast it was.

Source: ais_bench 0.0.2 and 0.1.0, `infer/benchmark_process.py`, `infer/io_oprations.py` and `infer/summary.py`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from infer.engines.ascend.om_input import OmPlan
from vidom.errors import BadDataError

__all__ = ["AisLog"]

# 0.1.0 writes some of them with a capital letter.
_BATCH = re.compile(r"(?i)try get model batchsize:\s*(\d+)")
_PACKING = re.compile(r"(?i)files0 size:(\d+) tensor0size:(\d+) filesperbatch:(\d+) runcount:(\d+)")
_READY = re.compile(r"(?i)warm up \d+ done|files0 size:\d+")
_SUMMARY = re.compile(r"(?i)-+Performance Summary-+")
_THROUGHPUT = re.compile(
    r"(?i)throughput 1000\*batchsize\.mean\(([\d.]+)\)/NPU_compute_time\.mean\(([\d.e+-]+)\): ([\d.e+-]+)"
)


@dataclass
class AisLog:
    """The lines of one process, parsed as they arrive.

    `plan` is what the files were packed for, None without files. Times are of `time.monotonic`, in s, and None until
    their line arrives: `began` when the model was loaded and warm, `ended` when everything was run and saved.
    `throughput` is in samples per second, `mean_ms` the mean execution.
    """

    plan: OmPlan | None
    batch_size: int | None = None
    files_per_batch: int | None = None
    runs: int | None = None
    began: float | None = None
    ended: float | None = None
    mean_ms: float | None = None
    throughput: float | None = None

    def read(self, line: str) -> None:
        """Parse one line of stdout; raise BadDataError when it shows that the files do not fit the model."""
        if found := _BATCH.search(line):
            self.batch_size = int(found[1])
        if found := _PACKING.search(line):
            self.files_per_batch, self.runs = int(found[3]), int(found[4])
            self._check_packing(int(found[1]), int(found[2]))
        if _READY.search(line):
            self.began = time.monotonic()
        elif _SUMMARY.search(line):
            self.ended = time.monotonic()
        elif found := _THROUGHPUT.search(line):
            self.mean_ms, self.throughput = float(found[2]), float(found[3])

    def _check_packing(self, file_bytes: int, tensor_bytes: int) -> None:
        """Raise BadDataError for files of the wrong dtype or shape, which ais_bench packs if their size divides."""
        if self.plan is None:
            return
        expected = self.plan.spec.nbytes
        if self.plan.batch_known and tensor_bytes != expected:
            raise BadDataError(
                f"The model's input has {tensor_bytes} bytes, not the {expected} of {self.plan.spec} according to "
                f"{self.plan.known_from}. ais_bench was stopped before its outputs were taken for results. "
                "The .om differs from the recorded one, or --batchsize is not its batch."
            )
        batch, packed = self.batch_size or 0, self.files_per_batch or 0
        if batch and (packed > batch or batch % packed):
            raise BadDataError(
                f"ais_bench packs {packed} files of {file_bytes} bytes into one batch of {batch} samples "
                f"({tensor_bytes} bytes), so dtype or shape of the files differ from the model's input, and it "
                "was stopped before its outputs were taken for results. Pack the clips for this model (its recipe, "
                "its --dtype)."
            )
