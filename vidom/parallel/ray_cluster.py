"""A Ray cluster, joined or started for the length of one command. Only here and in `ray_local` is Ray connected to."""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from vidom.errors import UnavailableError, UsageError
from vidom.files import write_text
from vidom.options import group
from vidom.parallel.ray_local import QUIET, lost_cluster, started_ray, watched_ray
from vidom.parallel.ray_workplace import Guard, Workplace, program_digest
from vidom.parallel.removal import removed_at_end
from vidom.wording import shown

__all__ = ["LOCAL", "RayCluster", "RayNode", "add_ray_option", "open_ray_cluster", "ray_option"]

LOCAL = "local"
_SECONDS_TO_ANSWER = 5


@dataclass(frozen=True)
class RayNode:
    """What a node of a cluster has."""

    cores: int
    gpus: int
    npus: int


@dataclass(frozen=True)
class RayCluster:
    """A cluster that this process is connected to; work on it begins with `guard`."""

    guard: Guard
    nodes: tuple[RayNode, ...]

    @property
    def cores(self) -> int:
        """The cores of all nodes together."""
        return sum(node.cores for node in self.nodes)


class _RayGroup:
    def add(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--ray",
            nargs="?",
            const=LOCAL,
            default=argparse.SUPPRESS,
            metavar="ADDRESS",
            help="run in a Ray cluster: HOST:PORT of its head, or auto if this node has one; without an address, or "
            "with local, a cluster is started on this machine",
        )

    def build(self, given: dict[str, Any]) -> str | None:
        address: str | None = given.pop("ray", None)
        return address


def ray_option() -> Any:
    """Return a dataclass field of type `str | None` that is read from `--ray [ADDRESS]`."""
    return group(_RayGroup(), default=None)


def add_ray_option(parser: argparse.ArgumentParser) -> None:
    """Add `--ray [ADDRESS]` to the parser of a command without an options dataclass."""
    parser.set_defaults(ray=None)
    _RayGroup().add(parser)


@contextmanager
def open_ray_cluster(
    address: str, *, cores: int, shared: Path, needs: Sequence[Path] = ()
) -> Iterator[RayCluster]:
    """Yield the cluster at `address`, or for "local" one of `cores` on this machine alone, which ends with the block.

    Every node must see the folder `shared`, which the work is written to, and those in `needs`, under the same
    names, and run this program from the same sources; a worker that does not raises UnavailableError. Raises
    UnavailableError where Ray is not installed or no cluster answers, UsageError for an address that is none.
    """
    ray = _import_ray()
    if ray.is_initialized():
        raise UsageError("This process is connected to a Ray cluster already. Call ray.shutdown() first.")
    name = secrets.token_hex(4)
    witness = (shared / f".ray-witness-{name}").absolute()
    folder = Path(gettempdir(), f"vidom-ray-{name}")
    with removed_at_end(witness, folder), _explained(ray), _connected(ray, address, cores, folder):
        write_text(
            witness, "Who sees this file has the same folder as the command that runs in a Ray cluster.\n"
        )
        needs = tuple(path.absolute() for path in needs)
        workplace = Workplace(folder=Path.cwd(), witness=witness, needs=needs, program=program_digest())
        found = (node["Resources"] for node in ray.nodes() if node["Alive"])
        nodes = tuple(RayNode(*(int(node.get(kind, 0)) for kind in ("CPU", "GPU", "NPU"))) for node in found)
        yield RayCluster(Guard.make(workplace), nodes)


def _import_ray() -> Any:
    try:
        # Ray is an optional package, and starting it takes seconds.
        import ray
        import ray.data
    except ImportError:
        raise UnavailableError(
            "--ray needs the optional package ray, which is not installed here. Type: make extras"
        ) from None
    return ray


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Raise UnavailableError where processes or nodes of the cluster are lost; errors of functions pass."""
    try:
        yield
    except ray.exceptions.RayError as error:
        if isinstance(getattr(error, "cause", error), ray.exceptions.RayError):
            raise lost_cluster(shown(str(error).strip().rstrip("."))) from None
        raise


@contextmanager
def _connected(ray: Any, address: str, cores: int, folder: Path) -> Iterator[None]:
    answer = signal.getsignal(signal.SIGTERM)
    local = address == LOCAL
    with ExitStack() as leaving:
        leaving.enter_context(started_ray(ray, cores, folder) if local else _joined(ray, address))
        # Ray has put its own answer to SIGTERM in the place of the command's, which unwinds like Ctrl-C.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, answer)
        _quieten(ray)
        if local:
            leaving.enter_context(watched_ray(ray))
        yield


def _check_address(address: str) -> None:
    """Raise UnavailableError unless `HOST:PORT` answers; Ray itself would wait two minutes and end the process."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()) or "/" in host:
        raise UsageError(
            f"--ray takes nothing or local, auto, or HOST:PORT of a cluster's head; found {address!r}. A command that "
            "joins a cluster runs on one of its nodes, so ray:// addresses are not for it."
        )
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(
            f"No Ray cluster answers at {address} ({error}). Start its head with: ray start --head --port={port}"
        ) from None


@contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    _check_address(address)
    try:
        _join(ray, address)
        yield
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"The Ray cluster at {address} cannot be joined: {str(error).strip().splitlines()[0]} The command must "
            "run on a node of the cluster (ray start --address=HOST:PORT), with its versions of Ray and Python, and "
            "with RAY_AUTH_MODE=token and its token where the cluster asks for one."
        ) from None


def _quieten(ray: Any) -> None:
    """Silence Ray: progress, results and errors are reported by the command."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # What Ray has to report of a killed process would go to stdout.
    ray._private.worker._worker_logs_enabled = False
