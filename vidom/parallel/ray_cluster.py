"""A Ray cluster, joined or started for the length of one command. Only here is Ray connected to."""

from __future__ import annotations

import argparse
import logging
import os
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
from vidom.parallel.ray_workplace import Guard, Workplace, program_digest
from vidom.parallel.removal import removed_at_end
from vidom.system.machine import look_at_machine
from vidom.system.npu import visible_npus
from vidom.wording import shown

__all__ = ["LOCAL", "RayCluster", "RayNode", "add_ray_option", "open_ray_cluster", "ray_option"]

LOCAL = "local"
# No more than this, nor than a quarter of the memory; what does not fit waits, or goes to disk.
_OBJECT_STORE_BYTES = 2 << 30
_SECONDS_TO_ANSWER = 5
_SECONDS_PER_LOOK = 0.2
_VITAL = {"gcs_server", "raylet"}
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


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
            raise _lost(shown(str(error).strip().rstrip("."))) from None
        raise


@contextmanager
def _connected(ray: Any, address: str, cores: int, folder: Path) -> Iterator[None]:
    answer = signal.getsignal(signal.SIGTERM)
    with ExitStack() as leaving:
        if address == LOCAL:
            folder.mkdir(0o700)
            leaving.enter_context(_own_environment(folder))
            leaving.callback(ray.shutdown)
            _start(ray, folder, cores)
        else:
            _check_address(address)
            leaving.callback(ray.shutdown)
            _join(ray, address)
        _quieten(ray)
        if threading.current_thread() is threading.main_thread():
            # Ray has put its own answer to SIGTERM in the place of the command's, which unwinds like Ctrl-C.
            signal.signal(signal.SIGTERM, answer)
            if address == LOCAL:
                leaving.enter_context(_watched(ray._private.worker._global_node))
        yield


@contextmanager
def _watched(node: Any) -> Iterator[None]:
    """Raise UnavailableError in the block, which the main thread runs, as soon as a vital process of `node` has ended.

    Ray would wait a quarter of a minute, and then raise an error or end this process.
    """
    over, main = threading.Event(), threading.get_ident()
    dead: set[str] = set()

    def watch() -> None:
        while not (over.wait(_SECONDS_PER_LOOK) or dead):
            dead.update({kind for kind, _ in node.dead_processes()} & _VITAL)
        if dead:
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        if not dead:
            raise
        raise _lost(f"its process {min(dead)} has ended") from None
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


def _lost(reason: str) -> UnavailableError:
    return UnavailableError(
        f"The Ray cluster failed: {reason}. Perhaps the memory did not suffice, or a node was lost. Run the same "
        "command again; it continues where it stopped."
    )


@contextmanager
def _own_environment(folder: Path) -> Iterator[None]:
    """Give a cluster that is started meanwhile a token of vidom's; Ray would leave its own in the home folder.

    Temporary files of its workers go to `folder`, with which they are removed.
    """
    own = {"TMPDIR": str(folder)}
    if "RAY_AUTH_MODE" not in os.environ:
        own["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    before = {name: os.environ.get(name) for name in (*own, "RAY_AUTH_MODE")}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _start(ray: Any, folder: Path, cores: int) -> None:
    from ray._private import ray_constants

    npus = visible_npus()
    # As on Windows and macOS, a cluster that no node can join listens on 127.0.0.1 only.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        ray.init(
            address=LOCAL,
            num_cpus=cores,
            # Ray itself finds none without the Python package of AscendCL.
            resources={"NPU": npus} if npus else None,
            object_store_memory=min(_OBJECT_STORE_BYTES, look_at_machine(folder).memory_bytes // 4),
            include_dashboard=False,
            # Ray opens its folder to everyone, but not the one around it. Names of sockets may not be long.
            _temp_dir=str(folder / "ray"),
            **_QUIET,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"Ray cannot be started on this machine: {shown(str(error).strip())}"
        ) from None
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


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


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, **_QUIET)
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
