"""Jobs that workers of the tests' Ray cluster import by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from vidom.errors import BadDataError


def square(number: int) -> int:
    return number * number


def square_after_one_death(job: tuple[int, Path]) -> int:
    """Kill the worker that is first given 13."""
    number, marker = job
    if number == 13 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise BadDataError("The video 3 holds no frames.")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number
