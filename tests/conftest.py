"""Where the tests find their truths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vidom.command import configure_logging

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("VIDOM_SHARED", REPOSITORY.parent / "shared"))


def pytest_configure() -> None:
    """Give each of several test processes a core of its own: threads that wait for work would take the others'."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture
def two_cores() -> Iterator[None]:
    """Allow this process all cores for a test; it is skipped on a machine with one."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two workers need two cores")
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """Log lines go to stderr as they do in a command."""
    configure_logging()


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The small numeric truths that are committed."""
    return REPOSITORY / "tests" / "fixtures"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, frames and large truths; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real videos and frames of {SHARED}, which are not here")
    return SHARED


TINY_RECIPE = """
name: tiny
summary: a TSM small enough to build many times
network: {arch: tsm, depth: 10, base_channels: 8}
checkpoint: {framework: mmaction2, file: tiny.pth}
dataset: {name: tiny, num_classes: 7, labels: labels/tiny.txt}
views:
  num_segments: 4
  twice_sample: true
  short_side: 32
  crop: three
  crop_size: 32
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
head: {softmax: true, average_clips: score}
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of six views whose network runs in milliseconds: 24 frames of 32 pixels, 7 classes."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray cluster of two workers: two nodes of a core each, the second of which calls itself an NPU's.

    Its workers import what is in `helpers`. Their ais_bench is run by what a test writes as
    `ray_nodes.standin_python`.
    """
    pytest.importorskip("ray", reason="needs ray: make extras")
    from ray.cluster_utils import Cluster
    from ray_nodes import standin_python

    # Sockets lie in it, whose names may not be long; where Ray's own folder is absent it does not come up.
    Path("/tmp/ray").mkdir(exist_ok=True)
    variables = {
        "AIS_PYTHON": str(standin_python(tmp_path_factory)),
        "PYTHONPATH": str(Path(__file__).parent / "helpers"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    small = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100_000_000}
    with TemporaryDirectory(prefix="vidom-") as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        cluster = Cluster(
            initialize_head=True, head_node_args={**small, "include_dashboard": False, "temp_dir": folder}
        )
        try:
            cluster.add_node(**small, resources={"NPU": 1})
            patch.undo()
            yield cluster.address
        finally:
            cluster.shutdown()
