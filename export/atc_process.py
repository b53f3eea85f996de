"""ATC as an outside process: run in a folder of its own, its output kept whole, judged by what it left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.atc_errors import explain
from vidom.errors import OutsideToolFailed

__all__ = ["AtcRun", "built_models", "judge", "run_atc"]

SUCCESS = "ATC run success"
_GRACE = 5.0
_KEPT_LINES = 5000


@dataclass(frozen=True)
class AtcRun:
    """How an ATC process ended: exit code (negative: the signal), seconds, the end of what it printed."""

    code: int
    seconds: float
    timed_out: bool
    output: str

    @property
    def banner(self) -> bool:
        """Whether it said that it succeeded."""
        return SUCCESS in self.output


def run_atc(
    command: Sequence[str],
    *,
    folder: Path,
    log_file: Path,
    time_limit: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> AtcRun:
    """The command has ended, run with `folder` as working folder, and `log_file` holds all that it printed.

    Each line is handed to `tell` as it comes. After `time_limit` seconds, and when this process is interrupted, the
    command and all it started are stopped. Raises OutsideToolFailed when it cannot be started.
    """
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    expired = threading.Event()
    started = time.monotonic()
    with log_file.open("wb") as log, _running(command, folder, time_limit, expired) as process:
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            text = line.decode(errors="replace").rstrip()
            kept.append(text)
            tell(text)
        code = process.wait()
    return AtcRun(code, time.monotonic() - started, expired.is_set(), "\n".join(kept))


@contextmanager
def _running(
    command: Sequence[str], folder: Path, time_limit: float | None, expired: threading.Event
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the process; afterwards nothing that it started is left. `expired` is set at the time limit."""
    process = None
    try:
        with _uninterrupted():
            process = _start(command, folder)
        threading.Thread(target=_watch, args=(process, time_limit, expired), daemon=True).start()
        yield process
    finally:
        if process is not None:
            _stop(process)
        if process is not None and process.stdout is not None:
            process.stdout.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """An interruption inside is raised on leaving, when the process being started has a name to be stopped by."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever interrupted
        return
    pending: list[int] = []
    before = {
        number: signal.signal(number, lambda caught, frame: pending.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    try:
        # A session of its own, so that ATC and its compile workers can be stopped together.
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise OutsideToolFailed(
            f"{command[0]} could not be started ({error.strerror or error}). Check that it is the atc of this "
            "processor and that its mode lets you run it."
        ) from None


def _watch(process: subprocess.Popen[bytes], time_limit: float | None, expired: threading.Event) -> None:
    """Stop the group once its leader has ended, whose workers may hold the pipe open, or at the time limit."""
    try:
        process.wait(timeout=time_limit)
    except subprocess.TimeoutExpired:
        expired.set()
    _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the process group is left running; it has a few seconds to end by itself."""
    if not _signal(process, signal.SIGTERM):
        return
    deadline = time.monotonic() + _GRACE
    while _signal(process, 0) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.05)
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False  # all of the group has ended
    return True


def built_models(folder: Path, name: str) -> tuple[Path, ...]:
    """Return the models that ATC may have written for `--output=name`: `name.om`, then `name_<os>_<processor>.om`.

    ATC adds system and processor when it puts libraries of the host into the model (ge, model_helper.cc).
    """
    pattern = re.compile(re.escape(name) + r"(_[a-z]+_(x86_64|aarch64))?\.om")
    found = (path for path in folder.iterdir() if pattern.fullmatch(path.name) and path.is_file())
    return tuple(sorted(found, key=lambda path: (len(path.name), path.name)))


def judge(run: AtcRun, *, folder: Path, name: str, log_file: Path) -> Path:
    """Return the model that `run` has built in `folder`.

    It succeeded when it ended with code 0, said so, and the model is there; ATC's own wrappers show that one of these
    alone says little. Raises OutsideToolFailed with a paragraph for each coded error and the names of what was left.
    """
    models = [path for path in built_models(folder, name) if path.stat().st_size]
    if run.code == 0 and run.banner and models and not run.timed_out:
        return models[0]
    paragraphs = [_failure(run), *explain(run.output), _left(folder, log_file)]
    raise OutsideToolFailed("\n".join(paragraphs))


def _failure(run: AtcRun) -> str:
    if run.timed_out:
        return f"ATC had not ended after {run.seconds:.0f} s, the --time_limit, and was stopped with all it started."
    if run.code < 0:
        return (
            f"ATC was ended by signal {-run.code} after {run.seconds:.0f} s; signal 9 mostly means that the machine "
            "had no memory left. TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1 make it need less."
        )
    if run.code:
        return f"ATC failed with code {run.code} after {run.seconds:.0f} s."
    if not run.banner:
        return f"ATC ended with code 0 but never said `{SUCCESS}`, so what it left is not trusted."
    return f"ATC ended with code 0 and said `{SUCCESS}`, but the .om is not there, or empty."


def _left(folder: Path, log_file: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    left = ", ".join(names[:12]) or "nothing"
    return f"Its whole output is in {log_file}; left in {folder}: {left}. No NPU was used."
