"""An evaluation by an engine that only reads files: a rolling window of clips on disk, packed, run and deleted.

    OUTPUT_DIR/window.part/store/    the clips of one window
    OUTPUT_DIR/window.part/out/      what ais_bench made of them

The rows of a window are recorded before its files are deleted, so that a killed run begins with the first window
that has none. On disk is never more than one window and its outputs.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from infer.evaluation.jobs import Job, batches_of
from infer.evaluation.one_window import WindowedModel, check_room, run_window, window_engine, window_samples
from infer.evaluation.plan import OnBad, Plan, Ran
from infer.evaluation.score_record import RowRecord
from preprocess.pack import store_header
from vidom.errors import ExternalToolError
from vidom.files import human_bytes
from vidom.progress import progress

__all__ = ["run_windowed", "windows_to_do"]

_log = logging.getLogger(__name__)

_WINDOW = "window.part"


def run_windowed(
    plan: Plan, model: WindowedModel, output_dir: Path, *, window_bytes: int, workers: int, on_bad: OnBad
) -> Ran:
    """The record in `output_dir` has a row for each job that could be read, and no clip is left.

    Raises UnavailableError when the disk is too small for a window, UsageError when a window holds no sample or the folder
    another record, BadDataError at the first unreadable sample unless `on_bad` is "skip", and what `infer` raises; after
    a failure of ais_bench the window stays for a look at it.
    """
    header = store_header(
        plan.recipe, [job.annotation for job in plan.jobs], batch_size=1, per_view=False, dtype=model.dtype
    )
    samples = window_samples(header, window_bytes, model.batch_size)
    record = RowRecord(output_dir, plan.header(model.path, **window_engine(model)))
    resumed, faults = len(record.done), dict[int, str]()
    todo = windows_to_do(plan, samples, record.done)
    if todo:
        check_room(output_dir, samples=max(map(len, todo)), header=header)
        _log.info(
            f"{len(todo)} windows of up to {samples} samples, {human_bytes(samples * header.sample_bytes)} each."
        )
    began, engine_seconds, peak = time.perf_counter(), 0.0, 0
    with (
        progress(total=len(plan.jobs), unit="sample", label="evaluate", done=resumed) as bar,
        closing(record),
    ):
        for jobs in todo:
            with _window_folder(output_dir / _WINDOW) as folder:
                window = replace(plan, jobs=jobs)
                computed = run_window(window, model, header, folder, workers=workers, on_bad=on_bad)
                record.add(computed.rows)
                faults |= {job.index: reason for job, reason in computed.bad}
                engine_seconds += computed.seconds
                peak = max(peak, _bytes_in(folder))
            bar.update(len(jobs))
    took = time.perf_counter() - began
    return Ran(faults, resumed, len(record.done) - resumed, took, engine_seconds, peak)


def windows_to_do(plan: Plan, samples: int, done: Container[int]) -> list[tuple[Job, ...]]:
    """Return the plan's jobs in windows of so many samples, those left out that are done."""
    windows = (tuple(job for job in jobs if job.index not in done) for jobs in batches_of(plan.jobs, samples))
    return [jobs for jobs in windows if jobs]


@contextmanager
def _window_folder(folder: Path) -> Iterator[Path]:
    """Yield the empty folder; afterwards it is gone, unless ais_bench failed on what is in it."""
    if folder.exists():
        shutil.rmtree(folder)
    keep = False
    try:
        yield folder
    except ExternalToolError:
        keep = True
        raise
    finally:
        if folder.exists() and not keep:
            shutil.rmtree(folder)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
