"""Short questions to programs that are not ours, bounded in time and in what they may print."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from vidom.errors import ExternalToolError
from vidom.system.process_group import kill_group, start_group

__all__ = ["Answer", "ask"]


@dataclass(frozen=True)
class Answer:
    """What a program that ended by itself left behind."""

    code: int
    output: str
    errors: str

    def last_words(self, *, characters: int = 400) -> str:
        """Return the end of what it printed, stderr before stdout, on one line, for an error message."""
        said = " ".join((self.errors.strip() or self.output.strip()).split())
        said = "".join(character for character in said if character.isprintable())
        return said if len(said) <= characters else "…" + said[-characters:]


def ask(
    command: Sequence[str],
    *,
    seconds: float,
    max_bytes: int = 1 << 20,
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """Run the program to its end, or kill it and its children at the time limit; nothing is left running.

    Its stdin is empty. Bytes that are not UTF-8 are replaced. Raises ExternalToolError when it cannot be
    started, has not ended after `seconds`, or prints more than `max_bytes` (stdout and stderr together).
    """
    shown = " ".join(command)
    process = start_group(command, environ=environ)
    with process:
        try:
            deadline = time.monotonic() + seconds
            output, errors = _drain(process, deadline, max_bytes)
            code = process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise ExternalToolError(
                f"`{shown}` had not ended after {seconds:g} s and was killed. Type it by hand; if it hangs "
                "there too, the driver or the device behind it does not answer."
            ) from None
        except BufferError:
            raise ExternalToolError(
                f"`{shown}` printed more than {max_bytes} bytes where a short answer was expected, and was "
                "killed. Type it by hand and look whether it is the program that its name says."
            ) from None
        finally:
            kill_group(process)
    return Answer(code, output.decode(errors="replace"), errors.decode(errors="replace"))


def _drain(process: subprocess.Popen[bytes], deadline: float, max_bytes: int) -> tuple[bytes, bytes]:
    """Return all of stdout and stderr; TimeoutError at the deadline, BufferError over `max_bytes`."""
    streams: list[IO[bytes]] = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    taken = {stream.fileno(): bytearray() for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                taken[key.fd] += chunk
            if sum(map(len, taken.values())) > max_bytes:
                raise BufferError
    output, errors = taken.values()
    return bytes(output), bytes(errors)
