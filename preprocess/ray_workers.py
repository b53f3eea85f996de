"""The same function over many jobs in the workers of a Ray cluster, as a streaming Ray Data job."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from preprocess.ray_cluster import RayCluster
from preprocess.ray_workplace import Failure, Guard
from vidom.errors import UserError

__all__ = ["each_finished_on_ray", "results_of"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_LARGEST_BLOCK = 16
_BLOCKS_PER_CORE = 16


def each_finished_on_ray(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, cluster: RayCluster
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in the order in which blocks of them finish.

    `function` must be importable by name on every node, jobs and results picklable. A block whose worker is killed is
    done again, those of its jobs included that had been done, so `function` must bear being called twice; after four
    beginnings Lacking is raised. A UserError or OSError of a job is raised here as itself.
    """
    import ray.data

    size = max(1, min(_LARGEST_BLOCK, len(jobs) // (_BLOCKS_PER_CORE * max(1, sum(cluster.cores)))))
    blocks = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    if not blocks:
        return
    run = secrets.token_hex(4)
    rows = [{"block": f"{run} {number}", "jobs": pickle.dumps(block)} for number, block in enumerate(blocks)]
    # As many blocks of Ray's as there are of ours: a task does one, and is what is done again.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    common = {"function": function, "guard": cluster.guard}
    yield from results_of(dataset.map(_do_block, fn_kwargs=common, num_cpus=1))


def results_of(dataset: Any) -> Iterator[Any]:
    """Yield what the rows' column `results` holds, pickled lists, as it comes; raise the error of a Failure."""
    for row in dataset.iter_rows():
        for result in pickle.loads(row["results"]):
            if isinstance(result, Failure):
                raise result.error
            yield result


def _do_block(row: dict[str, Any], *, function: Callable[[Any], Any], guard: Guard) -> dict[str, bytes]:
    jobs = pickle.loads(row["jobs"])
    return {"results": pickle.dumps(list(_results(row["block"], jobs, function, guard)))}


def _results(
    block: str, jobs: Iterable[Any], function: Callable[[Any], Any], guard: Guard
) -> Iterator[object]:
    jobs = tuple(jobs)
    try:
        guard.begin(block, what=f"A block of {len(jobs)} jobs, the first of them {jobs[0]!r:.200},")
        for job in jobs:
            yield function(job)
    except (UserError, OSError) as error:
        yield Failure(error)
