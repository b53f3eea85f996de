"""Long runs of programs that are not ours: their output streams through and is kept, and nothing of them stays.

Short questions with short answers are `vidom.system.external_query`'s.
"""

from __future__ import annotations

import codecs
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from vidom.system.process_group import start_group, stop_group

__all__ = ["Ended", "Job", "Stream", "run_streamed"]

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[int, Stream, str], None]
_TICK, _MOMENT = 0.2, 0.005
_KEPT = 1 << 16


@dataclass(frozen=True)
class Job:
    """A command, the file that takes all it prints (None for none), and its working folder if it is not ours."""

    command: Sequence[str]
    log_file: Path | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: the signal), seconds, the end of what it printed.

    `timed_out` and `stopped` are set where it did not end by itself: at the time limit, or because a different job
    failed.
    """

    code: int
    seconds: float
    timed_out: bool
    stopped: bool
    output: str


def run_streamed(
    jobs: Sequence[Job],
    *,
    on_output: OnOutput,
    time_limit: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Ended, ...]:
    """Run all jobs in parallel until they and all their children have ended; keep their output in the log files.

    `on_output` receives the job's number, the stream and its output: of stdout complete lines without their end,
    of stderr text as it comes, so that a progress bar moves. The first job that fails, `time_limit` seconds, an
    exception of `on_output` and an interruption stop all jobs. Raises ExternalToolError when a command cannot be
    started.
    """
    started = time.monotonic()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        running = []
        for number, job in enumerate(jobs):
            process = stack.enter_context(start_group(job.command, environ=environ, folder=job.folder))
            stack.callback(stop_group, process)
            log = stack.enter_context(job.log_file.open("wb")) if job.log_file else None
            running.append(_Running(number, process, log, on_output))
        for one in running:
            for stream in one.readers:
                selector.register(stream.pipe, selectors.EVENT_READ, stream)
        timed_out = _drain(selector, running, None if time_limit is None else started + time_limit)
        unfinished = [one.process.poll() is None for one in running]
        for one in running:
            stop_group(one.process)
            one.end()
        return tuple(
            Ended(
                code=one.process.wait(),
                seconds=(one.ended or time.monotonic()) - started,
                timed_out=timed_out and not_done,
                stopped=not timed_out and not_done,
                output="".join(one.tail),
            )
            for one, not_done in zip(running, unfinished, strict=True)
        )


def _drain(selector: selectors.BaseSelector, running: Sequence[_Running], deadline: float | None) -> bool:
    """Read until all jobs have ended or one has failed; return whether the deadline came first."""
    while deadline is None or time.monotonic() < deadline:
        # A process closes its pipes a moment before it can be seen to have ended.
        ready = selector.select(_TICK if selector.get_map() else _MOMENT)
        for key, _ in ready:
            if not key.data.take():
                selector.unregister(key.fileobj)
        ended = [one.note_end() for one in running]
        if any(one.process.returncode for one in running):
            _read_rest(selector)
            return False
        # Pipes may still be open then, held by a worker that left the group.
        if all(ended) and not ready:
            return False
    return True


def _read_rest(selector: selectors.BaseSelector) -> None:
    """Read what the pipes still hold, such as the message of the job that failed."""
    while ready := selector.select(0):
        for key, _ in ready:
            if not key.data.take():
                selector.unregister(key.fileobj)


@dataclass
class _Reader:
    """One pipe of a process; text that is not yet a line waits in `rest`."""

    owner: _Running
    name: Stream
    pipe: IO[bytes]
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    rest: str = ""

    def take(self) -> bool:
        """Hand on what the pipe holds now; return whether it is still open."""
        chunk = os.read(self.pipe.fileno(), 1 << 16)
        self.owner.keep(chunk, self.decoder.decode(chunk, final=not chunk), self)
        return bool(chunk)

    def hand_on(self, text: str) -> None:
        if self.name == "stderr":
            self.owner.on_output(self.owner.number, self.name, text)
            return
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.owner.on_output(self.owner.number, self.name, line)


class _Running:
    """A process that was started, its pipes, its log and the end of what it printed."""

    def __init__(
        self, number: int, process: subprocess.Popen[bytes], log: IO[bytes] | None, on_output: OnOutput
    ) -> None:
        self.number, self.process, self.on_output = number, process, on_output
        self.tail: list[str] = []
        self.ended: float | None = None
        self._log = log
        pipes: tuple[tuple[Stream, IO[bytes] | None], ...] = (
            ("stdout", process.stdout),
            ("stderr", process.stderr),
        )
        self.readers = [_Reader(self, name, pipe) for name, pipe in pipes if pipe is not None]

    def keep(self, chunk: bytes, text: str, reader: _Reader) -> None:
        if self._log:
            self._log.write(chunk)
            self._log.flush()
        if text:
            self.tail = ["".join(self.tail)[-_KEPT:], text]
            reader.hand_on(text)

    def note_end(self) -> bool:
        """Return whether the process has ended; then stop its group, whose workers may hold the pipes open."""
        if self.process.poll() is None:
            return False
        if self.ended is None:
            self.ended = time.monotonic()
            stop_group(self.process)
        return True

    def end(self) -> None:
        """Pass on a last line that has no line end."""
        for reader in self.readers:
            if reader.rest:
                self.on_output(self.number, reader.name, reader.rest)
                reader.rest = ""
