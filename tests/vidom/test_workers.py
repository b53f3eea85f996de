"""The same function over many jobs in several processes."""

from __future__ import annotations

import os
import signal

import pytest

from vidom.errors import UnavailableError
from vidom.parallel.workers import each_finished


def fail_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square(number: int) -> int:
    return number * number


def test_every_job_runs_once() -> None:
    assert list(each_finished(square, range(9), workers=1)) == [number**2 for number in range(9)]
    assert sorted(each_finished(square, iter(range(50)), workers=2)) == [number**2 for number in range(50)]


def test_a_killed_worker_is_reported() -> None:
    with pytest.raises(UnavailableError, match="worker"):
        list(each_finished(fail_at_three, range(9), workers=2))
