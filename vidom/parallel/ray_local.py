"""Ray on this machine alone: it listens on 127.0.0.1 only, and the command notices when it dies."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidom.errors import UnavailableError
from vidom.system.machine import look_at_machine
from vidom.system.npu import visible_npus
from vidom.wording import shown

__all__ = ["QUIET", "lost_cluster", "started_ray", "watched_ray"]

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""The arguments of `ray.init` that leave reports to the command."""

# No more than this, nor than a quarter of the memory; what does not fit waits, or goes to disk.
_OBJECT_STORE_BYTES = 2 << 30
_SECONDS_PER_LOOK = 0.2
_VITAL = {"gcs_server", "raylet"}


@contextmanager
def started_ray(ray: Any, cores: int, folder: Path) -> Iterator[None]:
    """Run Ray on `cores` of this machine while the block runs; all its files are in `folder`, which is created.

    Raises UnavailableError when it does not start.
    """
    folder.mkdir(0o700)
    with _own_environment(folder):
        try:
            _start(ray, cores, folder)
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_environment(folder: Path) -> Iterator[None]:
    """Give a cluster that is started meanwhile a token of vidom's; Ray would leave its own in the home folder.

    Temporary files of its workers go to `folder`, with which they are removed. As on Windows and macOS, a cluster that
    no node can join uses 127.0.0.1 only.
    """
    own = {"TMPDIR": str(folder), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
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


def _start(ray: Any, cores: int, folder: Path) -> None:
    from ray._private import ray_constants, services

    npus = visible_npus()
    try:
        with (
            _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False),
            # Even without a dashboard this process would ask servers of three clouds whether they are here.
            _replaced(services, "start_api_server", lambda *_, **__: ("", None)),
        ):
            ray.init(
                address="local",
                num_cpus=cores,
                # Ray itself finds none without the Python package of AscendCL.
                resources={"NPU": npus} if npus else None,
                object_store_memory=min(_OBJECT_STORE_BYTES, look_at_machine(folder).memory_bytes // 4),
                include_dashboard=False,
                # Ray opens its folder to everyone, but not the one around it. Names of sockets may not be long.
                _temp_dir=str(folder / "ray"),
                **QUIET,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"Ray cannot be started on this machine: {shown(str(error).strip())} (Its files go to {folder.parent}, "
            "unless TMPDIR names a different folder; the name must be short, as it becomes part of those of sockets.)"
        ) from None


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def watched_ray(ray: Any) -> Iterator[None]:
    """Raise UnavailableError in the block as soon as the started Ray has lost a vital process.

    Ray would wait a quarter of a minute, and then raise an error or end this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be interrupted
        return
    node = ray._private.worker._global_node
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
        raise lost_cluster(f"its process {min(dead)} has ended") from None
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


def lost_cluster(reason: str) -> UnavailableError:
    """Return the error of a command whose cluster failed for this `reason`, a clause."""
    return UnavailableError(
        f"The Ray cluster failed: {reason}. Perhaps the memory did not suffice, or a node was lost. Run the same "
        "command again; it continues where it stopped."
    )
