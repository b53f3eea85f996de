"""Run an evaluation in a Ray cluster, as a streaming Ray Data job.

For array engines, tasks decode batches and actors with engines run them. For file engines, a task computes a chunk on
one node, which has an NPU: Ray's resource `NPU`. A local cluster has as many as npu-smi shows; on the nodes of another
Ray counts those that it detects, or they are started with `ray start --resources='{"NPU": 1}'`. Ray shows a worker
only the NPU that it was assigned, which is device 0 there.

The rows are returned to this process, which appends them to the same record as the executor on one machine does.
They are the same bytes where all nodes have the same CPU model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infer.evaluation.batches import BatchSource, sample_dtype
from infer.evaluation.chunks import ChunkSource
from infer.evaluation.execution import (
    Block,
    Identity,
    OnBad,
    RowSource,
    RunSummary,
    collect,
    open_record,
    unfinished,
)
from infer.evaluation.plan import Plan
from infer.evaluation.ray_stages import BatchEngine, compute_chunk, decode_batch, identify
from vidom.errors import UnavailableError, UsageError
from vidom.parallel.ray_cluster import LOCAL, RayCluster, RayNode, open_ray_cluster
from vidom.parallel.ray_workers import answer_of, blocks_of, results_of
from vidom.system.machine import usable_cores

__all__ = ["Shares", "cores_per_npu", "run_on_ray", "shares_of"]

_log = logging.getLogger(__name__)

_MOST_THREADS = 4
_CORES_PER_DECODER = 8
_ONE_NPU = {"NPU": 1}


@dataclass(frozen=True)
class Shares:
    """The division of a cluster: `engines` of `threads` cores and `gpus` each, `decoders` of one core each."""

    engines: int
    threads: int
    decoders: int
    gpus: int = 0


@dataclass(frozen=True)
class _Pipeline:
    """The stages of a row source on a cluster: `engines` of them, which claim `claims` each, open `source`.

    `stages` makes a Ray data set of blocks, whose column `results` holds their results.
    """

    source: RowSource
    engines: int
    claims: dict[str, Any]
    stages: Callable[[Sequence[Block], Identity], Any]


def run_on_ray(
    plan: Plan,
    source: BatchSource | ChunkSource,
    output_dir: Path,
    *,
    address: str,
    workers: int | None,
    on_bad: OnBad,
) -> RunSummary:
    """Compute the missing rows of the record in `output_dir` in the Ray cluster at `address`.

    A block whose worker is killed is computed again, with the same batch composition. Raises what `open_ray_cluster`
    and `infer.evaluation.execution.run_locally` raise, UnavailableError where the cluster lacks an NPU or cores.

    Args:
        plan: the jobs.
        source: the engine and what it needs; without threads a joined cluster is divided by `shares_of`, and a local
            one has a thread and a decoder for each core.
        output_dir: the folder of the record, which all nodes see.
        address: `HOST:PORT`, `auto` or `local`.
        workers: decoding processes of the cluster, or those that pack for one NPU; None for all cores.
        on_bad: whether an unreadable sample ends the run.
    """
    if isinstance(source, BatchSource) and source.options.on_npu:
        raise UsageError(
            f"--engine {source.options.name} does not go with --ray here: it computes on an NPU, and Ray assigns none "
            "to it. Leave --ray out, or use --engine ascend."
        )
    if isinstance(source, ChunkSource) and source.options.devices != (0,):
        devices = ",".join(map(str, source.options.devices))
        raise UsageError(
            f"--device {devices} does not go with --ray: Ray assigns an NPU to each chunk. Leave it out."
        )
    cores = usable_cores()
    if isinstance(source, BatchSource) and address == LOCAL:
        workers, threads = workers or cores, source.options.threads or cores
        source = replace(source, options=replace(source.options, threads=threads))
        cores = workers + max(1, cores // threads) * threads
    with open_ray_cluster(address, cores=cores, shared=output_dir, needs=(plan.data_root,)) as cluster:
        if isinstance(source, ChunkSource):
            pipeline = _chunk_pipeline(source, cluster, workers=workers, on_bad=on_bad)
        else:
            pipeline = _batch_pipeline(source, cluster, workers=workers)
        identity = answer_of(identify, pipeline.source, cluster=cluster, **pipeline.claims)
        blocks = source.blocks(plan, identity)
        with closing(open_record(plan, identity, output_dir)) as record:
            todo = unfinished(blocks, record.done, atomic=source.atomic_blocks)
            results = results_of(pipeline.stages(todo, identity)) if todo else ()
            return collect(plan, record, results, engines=pipeline.engines, on_bad=on_bad)


def _batch_pipeline(source: BatchSource, cluster: RayCluster, *, workers: int | None) -> _Pipeline:
    """Return tasks that decode, and actors with engines."""
    shares = shares_of(
        cluster.nodes, on_gpus=not source.options.on_cpu, threads=source.options.threads, workers=workers
    )
    gpu = " and a GPU each" if shares.gpus else ""
    _log.info(
        f"{shares.decoders} decoding processes, {shares.engines} engines of {shares.threads} threads{gpu}."
    )
    source = replace(source, options=replace(source.options, threads=shares.threads))
    claims = {"num_cpus": shares.threads, "num_gpus": shares.gpus}

    def stages(blocks: Sequence[Block], identity: Identity) -> Any:
        import ray.data

        (spec,) = identity.inputs
        maker = source.maker(sample_dtype(spec))
        decoded = blocks_of(blocks).map(
            decode_batch,
            fn_kwargs={"maker": maker, "shape": spec.by_sample, "guard": cluster.guard},
            compute=ray.data.TaskPoolStrategy(size=shares.decoders),
            num_cpus=1,
            # That of the tensor. Stages with different claims are also not fused into one process by Ray.
            memory=spec.nbytes,
        )
        return decoded.map_batches(
            BatchEngine,
            fn_constructor_args=(source, identity, cluster.guard),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(shares.engines, len(blocks))),
            **claims,
        )

    return _Pipeline(source, shares.engines, claims, stages)


def _chunk_pipeline(
    source: ChunkSource, cluster: RayCluster, *, workers: int | None, on_bad: OnBad
) -> _Pipeline:
    """Return tasks that compute a chunk each, as many at a time as there are NPUs."""
    workers = cores_per_npu(cluster.nodes, workers)
    npus = sum(node.npus for node in cluster.nodes)
    _log.info(f"{workers} processes pack chunks for each of {npus} NPUs.")
    claims = {"num_cpus": workers, "resources": _ONE_NPU}
    common = {"source": source, "workers": workers, "on_bad": on_bad, "guard": cluster.guard}

    def stages(blocks: Sequence[Block], identity: Identity) -> Any:
        return blocks_of(blocks).map(compute_chunk, fn_kwargs={**common, "identity": identity}, **claims)

    return _Pipeline(source, npus, claims, stages)


def shares_of(nodes: Sequence[RayNode], *, on_gpus: bool, threads: int | None, workers: int | None) -> Shares:
    """Return the division of a cluster among decoders and engines, one for each GPU where they run `on_gpus`.

    An engine gets up to four cores of a node, or one in addition to its GPU. On CPUs one in eight of all cores
    decodes; the others go to engines as far as complete ones fit. Raises UnavailableError where an engine and a decoder
    do not fit.
    """
    cores = [node.cores for node in nodes if node.cores]
    total = sum(cores)
    threads = threads or (1 if on_gpus else min(_MOST_THREADS, max(1, min(cores, default=1) - 1)))
    slots = sum(min(node.cores // threads, node.gpus if on_gpus else node.cores) for node in nodes)
    if not slots or total < threads + 1:
        existing = ", ".join(f"{node.cores} cores and {node.gpus} GPUs" for node in nodes) or "nothing"
        gpu = " and a GPU" if on_gpus else ""
        raise UnavailableError(
            f"The nodes of the Ray cluster have {existing}. An engine needs {threads} cores{gpu} of one node, and "
            "decoding a further core. Give fewer --threads, or add nodes with: ray start --address=HOST:PORT"
        )
    spared = 1 if on_gpus else min(workers or -(-total // _CORES_PER_DECODER), total - threads)
    engines = min(slots, (total - spared) // threads)
    return Shares(engines, threads, workers or total - engines * threads, gpus=int(on_gpus))


def cores_per_npu(nodes: Sequence[RayNode], workers: int | None) -> int:
    """Return `workers`, or the number of cores for each NPU on the node where they are scarcest.

    Raises UnavailableError where no node has an NPU and as many cores.
    """
    with_npus = [node for node in nodes if node.npus]
    if not with_npus:
        raise UnavailableError(
            "The Ray cluster has no NPU. A local one has those that npu-smi shows, none here. On the nodes of another, "
            "Ray counts those that it detects; where it detects none, start the node with: "
            "ray start --address=HOST:PORT --resources='{\"NPU\": 1}'"
        )
    required = workers or max(1, min(node.cores // node.npus for node in with_npus))
    if all(node.cores < required for node in with_npus):
        raise UnavailableError(
            f"--workers {required} processes cannot pack for an NPU: its node has only "
            f"{max(node.cores for node in with_npus)} cores in the Ray cluster. Give fewer."
        )
    return required
