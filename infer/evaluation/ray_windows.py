"""An evaluation on the NPUs of a Ray cluster: each window of clips is packed, run and deleted by one node.

NPUs are Ray's resource `NPU`, which Ray counts by itself where it finds some; else a node is started with
`ray start --resources='{"NPU": 1}'`. Ray shows a worker only the NPU that it was given, which is device 0 there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infer.evaluation.on_ray import collect
from infer.evaluation.one_window import WindowedModel, window_engine, window_samples
from infer.evaluation.plan import OnBad, Plan, Ran
from infer.evaluation.ray_stages import do_window
from infer.evaluation.score_record import RowRecord
from infer.evaluation.windowed import windows_to_do
from preprocess.pack import store_header
from vidom.errors import UnavailableError
from vidom.parallel.ray_cluster import RayNode, open_ray_cluster
from vidom.parallel.ray_workers import answer_of, blocks_of, results_of
from vidom.system.machine import usable_cores

__all__ = ["run_windows_on_ray"]

_log = logging.getLogger(__name__)

_ONE_NPU = {"NPU": 1}


def run_windows_on_ray(
    plan: Plan,
    model: WindowedModel,
    output_dir: Path,
    *,
    address: str,
    window_bytes: int,
    workers: int | None,
    on_bad: OnBad,
) -> Ran:
    """The record in `output_dir` has a row for each job that could be read, and no clip is left.

    As many windows are under way as there are NPUs; each is packed by `workers` processes (default: the node's share).
    Raises UnavailableError where the cluster has no NPU, and else what `run_windowed` and `open_ray_cluster` raise.
    """
    header = store_header(
        plan.recipe, [job.annotation for job in plan.jobs], batch_size=1, per_view=False, dtype=model.dtype
    )
    samples = window_samples(header, window_bytes, model.batch_size)
    with open_ray_cluster(
        address, cores=usable_cores(), shared=output_dir, needs=(plan.data_root,)
    ) as cluster:
        workers = _cores_of_a_window(cluster.nodes, workers)
        npus = sum(node.npus for node in cluster.nodes)
        engine = answer_of(window_engine, model, cluster=cluster, num_cpus=workers, resources=_ONE_NPU)
        record = RowRecord(output_dir, plan.header(model.path, **engine))
        todo = windows_to_do(plan, samples, record.done)
        _log.info(f"{len(todo)} windows of up to {samples} samples on {npus} NPUs.")
        common = {
            "plan": replace(plan, jobs=()),
            "model": model,
            "engine": engine,
            "header": header,
            "workers": workers,
            "on_bad": on_bad,
            "guard": cluster.guard,
        }
        stage = blocks_of(todo).map(do_window, fn_kwargs=common, num_cpus=workers, resources=_ONE_NPU)
        return collect(plan, record, results_of(stage) if todo else (), engines=npus, on_bad=on_bad)


def _cores_of_a_window(nodes: Sequence[RayNode], workers: int | None) -> int:
    """Return `workers`, or how many cores each NPU has to itself on the node where they are scarcest.

    Raises UnavailableError where no node has an NPU and as many cores.
    """
    having = [node for node in nodes if node.npus]
    if not having:
        raise UnavailableError(
            "The Ray cluster has no NPU. Ray counts those it finds on a node; where it does not, start the node with: "
            "ray start --address=HOST:PORT --resources='{\"NPU\": 1}'"
        )
    wanted = workers or max(1, min(node.cores // node.npus for node in having))
    if all(node.cores < wanted for node in having):
        raise UnavailableError(
            f"--workers {wanted} processes are to pack for an NPU, but its node has only "
            f"{max(node.cores for node in having)} cores in the Ray cluster. Give fewer."
        )
    return wanted
