"""The devices of a run: which cards, one process for each, and what Accelerate makes of this process's own.

What differs between CUDA, Ascend NPUs and the CPU is in `vidom.system.torch_devices`; the rest asks Accelerate.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from vidom.errors import UnavailableError, UsageError
from vidom.formats.recipe_parts.train_section import TrainSection
from vidom.system.torch_devices import VISIBLE, check_present, device_kind

__all__ = ["Cards", "accelerator_of", "is_first", "is_worker", "parse_cards", "run_on_cards"]

Cards = tuple[int, ...]


def parse_cards(text: str) -> Cards:
    """Return the cards that `8` (the first eight) or `0,1,5` names; UsageError for anything else."""
    if re.fullmatch("[0-9]{1,3}", text):
        count = int(text)
        cards = tuple(range(count))
    elif re.fullmatch("[0-9]{1,3}(,[0-9]{1,3})+", text):
        cards = tuple(map(int, text.split(",")))
    else:
        cards = ()
    if not cards or len(set(cards)) < len(cards):
        raise UsageError(
            f"--cards {text!r} is neither a count, such as 8, nor a list of different cards, such as 0,1."
        )
    return cards


def is_worker() -> bool:
    """Return whether this process is one of several that `run_on_cards` or torchrun started."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Return whether this process is the only one or the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def run_on_cards(words: Sequence[str], cards: Cards) -> int:
    """Run `python -m train WORDS` once for each card and return the exit code, the first that is not 0.

    The processes find one another on this machine's loopback address. On a CPU the cards are just a number of
    processes. When one fails, the others are ended. Raises UnavailableError where a card does not exist.
    """
    kind = device_kind()
    if kind != "cpu":
        check_present(kind, cards)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(len(cards)),
        VISIBLE.get(kind, "VIDOM_CARDS"): ",".join(map(str, cards)),
    }
    if kind == "cpu":
        shared |= {
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(cards))),
        }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "train", *words],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(len(cards))
    ]
    return _wait(processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Return the first exit code that is not 0, ending the other processes then; they save what they have."""
    code = 0
    try:
        while any(process.poll() is None for process in processes):
            code = next((process.returncode for process in processes if process.returncode), 0)
            if code:
                break
            with suppress(subprocess.TimeoutExpired):
                processes[0].wait(0.2)
    except KeyboardInterrupt:
        pass  # the processes got the signal too, or get it below
    for process in processes:
        if process.poll() is None:
            process.terminate()
    codes = [process.wait() for process in processes]
    return code or next((one for one in codes if one), 0)


def accelerator_of(section: TrainSection, precision: str) -> Accelerator:
    """Return what places tensors on this process's device, mixes precisions and averages gradients.

    Batch statistics stay those of each device, as in mmcv. Raises UnavailableError where the device lacks the
    precision.
    """
    kind = device_kind()
    if kind == "cpu" and precision == "fp16":
        # Accelerate would compute in float32 and say nothing.
        raise UnavailableError(
            "Precision fp16 needs a CUDA device or an NPU, and there is none. Use bf16 or no."
        )
    # What an earlier run of this process, perhaps in another precision, has left.
    AcceleratorState._reset_state()
    try:
        return Accelerator(
            cpu=kind == "cpu",
            mixed_precision=precision,
            dynamo_backend="inductor" if section.compile else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except ValueError as error:
        raise UnavailableError(f"Precision {precision} is not available on this device: {error}.") from None
