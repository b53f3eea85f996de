"""An evaluation in a Ray cluster, as a Ray Data job: tasks decode batches, actors with engines run them.

The rows come back to this process, which appends them to the same record as a run on one machine does: either kind
of run continues the other's. They are the same bytes wherever the nodes' processors are of one kind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infer.evaluation.jobs import Job, batches_of
from infer.evaluation.plan import Computed, OnBad, Plan, Ran, unreadable
from infer.evaluation.ray_stages import BatchEngine, EngineOptions, Identity, decode_batch, identify
from infer.evaluation.sample_maker import SampleMaker, check_fit, sample_dtype
from infer.evaluation.score_record import RowRecord
from vidom.errors import UnavailableError
from vidom.parallel.ray_cluster import LOCAL, RayNode, open_ray_cluster
from vidom.parallel.ray_workers import answer_of, blocks_of, results_of
from vidom.parallel.ray_workplace import Guard
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["Shares", "collect", "run_on_ray", "shares_of"]

_log = logging.getLogger(__name__)

_MOST_THREADS = 4
_CORES_PER_DECODER = 8


@dataclass(frozen=True)
class Shares:
    """Who gets which part of a cluster: `engines` of `threads` cores and `gpus` each, `decoders` of one core each."""

    engines: int
    threads: int
    decoders: int
    gpus: int = 0


@dataclass(frozen=True)
class _Engines:
    """The model as the engines of a cluster have it."""

    options: EngineOptions
    identity: Identity
    shares: Shares
    guard: Guard


def run_on_ray(
    plan: Plan, options: EngineOptions, output_dir: Path, *, address: str, workers: int | None, on_bad: OnBad
) -> Ran:
    """The record in `output_dir` has a row for each job that could be read.

    The model is opened on the nodes as `options` say; without threads in them, and without `workers`, a cluster that
    is joined is shared out as `shares_of` does, and a local one has a thread and a decoder for each core. Batches are
    made of the same jobs as on one machine. Raises what `open_ray_cluster` and the engine raise, UsageError when the
    model does not fit or the folder holds another record, BadDataError at the first unreadable sample unless `on_bad` is
    "skip".
    """
    threads, cores = options.threads, 0
    if address == LOCAL:
        workers = workers or usable_cores()
        threads = threads or usable_cores()
        cores = workers + max(1, usable_cores() // threads) * threads
    with open_ray_cluster(address, cores=cores, shared=output_dir, needs=(plan.data_root,)) as cluster:
        shares = shares_of(cluster.nodes, on_gpus=_on_gpu(options), threads=threads, workers=workers)
        _log.info(
            f"{shares.decoders} decoding processes, {shares.engines} engines of {shares.threads} threads"
            + (" and a GPU each." if shares.gpus else ".")
        )
        options = replace(options, threads=shares.threads)
        identity = answer_of(
            identify, options, cluster=cluster, num_cpus=shares.threads, num_gpus=shares.gpus
        )
        check_fit(options.model, identity.inputs, identity.outputs, plan.recipe)
        record = RowRecord(output_dir, plan.header(options.model, **identity.header))
        batches = batches_of(plan.jobs, identity.inputs[0].rows)
        todo = [jobs for jobs in batches if not all(job.index in record.done for job in jobs)]
        engines = _Engines(options, identity, shares, cluster.guard)
        return collect(plan, record, _computed(todo, plan, engines), engines=shares.engines, on_bad=on_bad)


def shares_of(nodes: Sequence[RayNode], *, on_gpus: bool, threads: int | None, workers: int | None) -> Shares:
    """Return how a cluster is shared out, with an engine for each GPU where the engines run `on_gpus`.

    An engine gets up to four cores of a node, or one beside its GPU. On CPUs one in eight of all cores decodes, and the
    others go to engines as far as whole ones fit. Raises UnavailableError where an engine and a decoder do not fit.
    """
    cores = [node.cores for node in nodes if node.cores]
    total = sum(cores)
    threads = threads or (1 if on_gpus else min(_MOST_THREADS, max(1, min(cores, default=1) - 1)))
    places = sum(min(node.cores // threads, node.gpus if on_gpus else node.cores) for node in nodes)
    if not places or total < threads + 1:
        found = ", ".join(f"{node.cores} cores and {node.gpus} GPUs" for node in nodes) or "nothing"
        raise UnavailableError(
            f"The nodes of the Ray cluster have {found}. Needed are {threads} cores{' and a GPU' if on_gpus else ''} "
            "of one node for an engine, and another core for decoding. Give fewer --threads, or add nodes with: "
            "ray start --address=HOST:PORT"
        )
    spared = 1 if on_gpus else min(workers or -(-total // _CORES_PER_DECODER), total - threads)
    engines = min(places, (total - spared) // threads)
    return Shares(engines, threads, workers or total - engines * threads, gpus=int(on_gpus))


def _on_gpu(options: EngineOptions) -> bool:
    return options.provider is not None and not options.provider.lower().startswith("cpu")


def collect(
    plan: Plan, record: RowRecord, results: Iterable[Computed], *, engines: int, on_bad: OnBad
) -> Ran:
    """The rows are in the record; the engine's time is that of `engines` which compute side by side.

    Raises BadDataError at the first unreadable sample unless `on_bad` is "skip".
    """
    resumed, faults, engine_seconds = len(record.done), dict[int, str](), 0.0
    began = time.perf_counter()
    with progress(total=len(plan.jobs), unit="sample", label="evaluate", done=resumed) as bar:
        for computed in results:
            if computed.bad and on_bad == "fail":
                raise unreadable(*computed.bad[0])
            faults |= {job.index: reason for job, reason in computed.bad}
            engine_seconds += computed.seconds / engines
            before = len(record.done)
            record.add(computed.rows)
            bar.update(len(record.done) - before + len(computed.bad))
    record.close()
    return Ran(faults, resumed, len(record.done) - resumed, time.perf_counter() - began, engine_seconds)


def _computed(todo: Sequence[tuple[Job, ...]], plan: Plan, engines: _Engines) -> Iterator[Computed]:
    """Yield what became of each batch, in the order in which they are done; a killed worker's is done again."""
    import ray.data

    if not todo:
        return
    (spec,) = engines.identity.inputs
    shares, guard = engines.shares, engines.guard
    maker = SampleMaker(plan.recipe, plan.data_root, sample_dtype(spec))
    decoded = blocks_of(todo).map(
        decode_batch,
        fn_kwargs={"maker": maker, "shape": spec.by_sample, "guard": guard},
        compute=ray.data.TaskPoolStrategy(size=shares.decoders),
        num_cpus=1,
        # The tensor's; and a stage that claims something else than the next is not merged with it into one process.
        memory=spec.nbytes,
    )
    yield from results_of(
        decoded.map_batches(
            BatchEngine,
            fn_constructor_args=(engines.options, engines.identity, guard),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(shares.engines, len(todo))),
            num_cpus=shares.threads,
            num_gpus=shares.gpus,
        )
    )
