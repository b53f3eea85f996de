"""One window of clips for an engine that only reads files: packed, run and read into rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.evaluation.jobs import Job
from infer.evaluation.plan import Computed, OnBad, Plan, unreadable
from infer.evaluation.score_record import Row
from infer.inference import infer
from postprocess.matching import match_by_store
from postprocess.outputs import find_outputs
from preprocess.pack import StoreDtype
from preprocess.pack_groups import Group, pack_group
from vidom.errors import UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes
from vidom.formats.clip_store import ClipStore, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter
from vidom.formats.engine_outputs import read_output
from vidom.parallel.workers import each_finished
from vidom.system.ais_bench_probe import probe_ais_bench
from vidom.system.cann import find_cann

__all__ = ["WindowedModel", "check_room", "run_window", "window_engine", "window_samples"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowedModel:
    """An offline model, what its input is of, its batch where nothing else tells it, and the devices that run it."""

    path: Path
    dtype: StoreDtype
    batch_size: int | None
    device: str


def window_engine(model: WindowedModel) -> dict[str, Any]:
    """Return the engine's part of `Plan.header`, its keywords, as ais_bench is installed here."""
    bench, cann = probe_ais_bench(), find_cann()
    return {
        "engine": "ascend",
        "engine_version": f"ais_bench {bench.ais_bench}, aclruntime {bench.aclruntime}, CANN {cann and cann.version}",
        "batch_size": model.batch_size,
        "facts": {"dtype": model.dtype},
    }


def window_samples(header: StoreHeader, window_bytes: int, batch_size: int | None) -> int:
    """Return how many samples a window holds: whole batches, so that only the last one is padded."""
    batch = batch_size or 1
    samples = window_bytes // header.sample_bytes // batch * batch
    if samples < 1:
        raise UsageError(
            f"--window {human_bytes(window_bytes)} holds no batch of {batch} samples of "
            f"{human_bytes(header.sample_bytes)} each. Give at least {human_bytes(batch * header.sample_bytes)}."
        )
    return samples


def check_room(folder: Path, *, samples: int, header: StoreHeader) -> None:
    """The disk that holds `folder` has room for a window of so many samples, else UnavailableError."""
    needed, free = samples * header.sample_bytes, free_bytes(folder)
    if needed > free:
        raise UnavailableError(
            f"A window of {samples} samples takes {human_bytes(needed)}, but only {human_bytes(free)} are free where "
            f"{folder} lies. Give a smaller --window, or an --output_dir on a larger disk."
        )


def run_window(
    plan: Plan, model: WindowedModel, header: StoreHeader, folder: Path, *, workers: int, on_bad: OnBad
) -> Computed:
    """Return what became of the plan's jobs, all of them one window, whose files are left in `folder`.

    Raises BadDataError at an unreadable sample unless `on_bad` is "skip", and what `infer` raises.
    """
    bad = _pack(plan.jobs, plan, header, folder / "store", workers=workers)
    if bad and on_bad == "fail":
        raise unreadable(*bad[0])
    if len(bad) == len(plan.jobs):
        return Computed([], bad, 0)
    rows, seconds = _infer(model, folder, plan.recipe.dataset.num_classes)
    return Computed(rows, bad, seconds)


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


def _infer(model: WindowedModel, folder: Path, classes: int) -> tuple[list[Row], float]:
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
        say=_log.info,
    )
    store = ClipStore.open(folder / "store")
    outputs = find_outputs(folder / "out_summary.json")
    rows = []
    for match in match_by_store(outputs, store):
        (index,) = match.samples
        scores = np.asarray(read_output(match.output.path, classes=classes), np.float32)[0]
        rows.append(Row(index, store.samples[index].id, store.samples[index].label, scores))
    return sorted(rows, key=lambda row: row.index), result.seconds
