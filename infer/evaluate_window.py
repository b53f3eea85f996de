"""An evaluation by an engine that only reads files: a rolling window of clips on disk, packed, run and deleted.

    OUTPUT_DIR/window.part/store/    the clips of one window
    OUTPUT_DIR/window.part/out/      what ais_bench made of them

The rows of a window are recorded before its files are deleted, so that a killed run begins with the first window
that has none. On disk is never more than one window and its outputs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infer.bench import infer
from infer.evaluate_jobs import Job, batches_of
from infer.evaluate_plan import OnBad, Plan, Ran, unreadable
from infer.evaluate_record import Row, RowRecord
from postprocess.matching import match_by_store
from postprocess.outputs import find_outputs
from preprocess.pack import StoreDtype, store_header
from preprocess.pack_groups import Group, pack_group
from preprocess.workers import each_finished
from vidom.ais_bench_probe import probe_ais_bench
from vidom.cann import find_cann
from vidom.clip_store import ClipStore, StoreHeader
from vidom.clip_store_writer import ClipStoreWriter
from vidom.command import log
from vidom.errors import Lacking, OutsideToolFailed, UsageError
from vidom.files import free_bytes, human_bytes
from vidom.progress import progress
from vidom.results import read_output

__all__ = ["WindowedModel", "run_windowed"]

_WINDOW = "window.part"


@dataclass(frozen=True)
class WindowedModel:
    """An offline model, what its input is of, its batch where nothing else tells it, and the devices that run it."""

    path: Path
    dtype: StoreDtype
    batch_size: int | None
    device: str


def run_windowed(
    plan: Plan, model: WindowedModel, output_dir: Path, *, window_bytes: int, workers: int, on_bad: OnBad
) -> Ran:
    """The record in `output_dir` has a row for each job that could be read, and no clip is left.

    Raises Lacking when the disk is too small for a window, UsageError when a window holds no sample or the folder
    another record, BadData at the first unreadable sample unless `on_bad` is "skip", and what `infer` raises; after
    a failure of ais_bench the window stays for a look at it.
    """
    header = store_header(
        plan.recipe, [job.annotation for job in plan.jobs], batch_size=1, per_view=False, dtype=model.dtype
    )
    windows = tuple(batches_of(plan.jobs, _window_samples(header, window_bytes, model.batch_size)))
    record = RowRecord(output_dir, _record_header(plan, model))
    resumed, faults = len(record.done), dict[int, str]()
    todo = [left for jobs in windows if (left := [job for job in jobs if job.index not in record.done])]
    if todo:
        _announce(header, max(map(len, todo)), len(todo), output_dir)
    began, engine_seconds, peak = time.perf_counter(), 0.0, 0
    with progress(total=len(plan.jobs), unit="sample", label="evaluate", done=resumed) as bar:
        for jobs in todo:
            with _window_folder(output_dir / _WINDOW) as folder:
                bad = _pack(jobs, plan, header, folder / "store", workers=workers)
                if bad and on_bad == "fail":
                    raise unreadable(*bad[0])
                faults |= {job.index: reason for job, reason in bad}
                if len(bad) < len(jobs):
                    rows, seconds = _run(model, folder, plan.recipe.dataset.num_classes)
                    engine_seconds += seconds
                    record.add(rows)
                peak = max(peak, _bytes_in(folder))
            bar.update(len(jobs))
    record.close()
    took = time.perf_counter() - began
    return Ran(faults, resumed, len(record.done) - resumed, took, engine_seconds, peak)


def _window_samples(header: StoreHeader, window_bytes: int, batch_size: int | None) -> int:
    """Return how many samples a window holds: whole batches, so that only the last one is padded."""
    batch = batch_size or 1
    samples = window_bytes // header.sample_bytes // batch * batch
    if samples < 1:
        raise UsageError(
            f"--window {human_bytes(window_bytes)} holds no batch of {batch} samples of "
            f"{human_bytes(header.sample_bytes)} each. Give at least {human_bytes(batch * header.sample_bytes)}."
        )
    return samples


def _record_header(plan: Plan, model: WindowedModel) -> dict[str, object]:
    bench, cann = probe_ais_bench(), find_cann()
    return plan.header(
        model.path,
        engine="ascend",
        engine_version=f"ais_bench {bench.ais_bench}, aclruntime {bench.aclruntime}, CANN {cann and cann.version}",
        batch_size=model.batch_size,
        facts={"dtype": model.dtype},
    )


def _announce(header: StoreHeader, samples: int, windows: int, output_dir: Path) -> None:
    needed, free = samples * header.sample_bytes, free_bytes(output_dir)
    log(
        f"{windows} windows of up to {samples} samples, {human_bytes(needed)} each; {human_bytes(free)} free."
    )
    if needed > free:
        raise Lacking(
            f"A window of {samples} samples takes {human_bytes(needed)}, but only {human_bytes(free)} are free where "
            f"{output_dir} lies. Give a smaller --window, or an --output_dir on a larger disk."
        )


@contextmanager
def _window_folder(folder: Path) -> Iterator[Path]:
    """Yield the empty folder; afterwards it is gone, unless ais_bench failed on what is in it."""
    if folder.exists():
        shutil.rmtree(folder)
    keep = False
    try:
        yield folder
    except OutsideToolFailed:
        keep = True
        raise
    finally:
        if folder.exists() and not keep:
            shutil.rmtree(folder)


def _pack(
    jobs: Sequence[Job], plan: Plan, header: StoreHeader, folder: Path, *, workers: int
) -> list[tuple[Job, str]]:
    """The clips of the jobs are a store in `folder`; return those that could not be read, with the reason."""
    writer = ClipStoreWriter(folder, header)
    groups = [
        Group(
            (writer.clips / writer.file_name(job.index),),
            ((job.index, job.annotation),),
            plan.data_root,
            plan.recipe,
            header,
        )
        for job in jobs
    ]
    for packed in each_finished(pack_group, groups, workers=workers):
        writer.add(packed.files, packed.samples, packed.skipped)
    reasons = {index: skip.reason for index, skip in writer.skipped.items()}
    writer.finish(plan.recipe.labels(), plan.recipe.dataset.info_name)
    return [(job, reasons[job.index]) for job in jobs if job.index in reasons]


def _run(model: WindowedModel, folder: Path, classes: int) -> tuple[list[Row], float]:
    """Return the rows that ais_bench computed of the store in `folder`, and the seconds that it took."""
    result = infer(
        model=model.path,
        input=folder / "store" / "clips",
        output=folder,
        output_dirname="out",
        outfmt="NPY",
        batchsize=model.batch_size,
        engine="ascend",
        device=model.device,
        say=log,
    )
    store = ClipStore.open(folder / "store")
    outputs = find_outputs(folder / "out_summary.json")
    rows = []
    for match in match_by_store(outputs, store):
        (index,) = match.samples
        scores = np.asarray(read_output(match.output.path, classes=classes), np.float32)[0]
        rows.append(Row(index, store.samples[index].id, store.samples[index].label, scores))
    return sorted(rows, key=lambda row: row.index), result.seconds


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
