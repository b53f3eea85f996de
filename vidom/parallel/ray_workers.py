"""The same function over many jobs in the workers of a Ray cluster, as a streaming Ray Data job."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from vidom.errors import UserError
from vidom.parallel.ray_cluster import RayCluster
from vidom.parallel.ray_workplace import Failure, Guard

__all__ = ["answer_of", "blocks_of", "each_finished_on_ray", "results_of"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_LARGEST_BLOCK = 16
_BLOCKS_PER_CORE = 16


def each_finished_on_ray(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, cluster: RayCluster
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in the order in which blocks of them finish.

    `function` must be importable by name on every node, jobs and results picklable. A block whose worker is killed is
    done again, those of its jobs included that had been done, so `function` must bear being called twice; after three
    beginnings UnavailableError is raised. A UserError or OSError of a job is raised here as itself.
    """
    size = max(1, min(_LARGEST_BLOCK, len(jobs) // (_BLOCKS_PER_CORE * max(1, cluster.cores))))
    blocks = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    if not blocks:
        return
    common = {"function": function, "guard": cluster.guard}
    yield from results_of(blocks_of(blocks).map(_do_block, fn_kwargs=common, num_cpus=1))


def blocks_of(blocks: Sequence[Sequence[Job]]) -> Any:
    """Return a Ray data set with a row for each block: its pickled `jobs`, and in `block` a name that is like no other.

    Ray's blocks are these: a task or an actor's call does one, and is repeated when its worker is killed.
    """
    import ray.data

    run = secrets.token_hex(4)
    rows = [{"block": f"{run} {number}", "jobs": pickle.dumps(jobs)} for number, jobs in enumerate(blocks)]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def results_of(dataset: Any) -> Iterator[Any]:
    """Yield what the rows' column `results` holds, pickled lists, as it comes; raise the error of a Failure."""
    for row in dataset.iter_rows():
        for result in pickle.loads(row["results"]):
            if isinstance(result, Failure):
                raise result.error
            yield result


def answer_of(function: Callable[[Job], Result], job: Job, *, cluster: RayCluster, **claims: Any) -> Result:
    """Return `function(job)` of a node that has the claimed resources (num_cpus, num_gpus, resources)."""
    import ray

    answer: Result | Failure = ray.get(ray.remote(**claims)(_answer).remote(function, job, cluster.guard))
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def _answer(function: Callable[[Any], Any], job: Any, guard: Guard) -> object:
    try:
        guard.workplace.enter()
        return function(job)
    except (UserError, OSError) as error:
        return Failure(error)


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
