"""Peaks of a machine: float32 matrix products, and memory read and written in long streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from vidom.errors import UnavailableError
from vidom.files import human_bytes

__all__ = ["Kernel", "Peaks", "kernels", "peaks"]

_GEMMS = (("torch", 1024), ("torch", 2048), ("torch", 4096), ("numpy", 2048))


@dataclass(frozen=True)
class Kernel:
    """A piece of work of pure arithmetic (`flops`) or pure memory access (`moved_bytes`); the other is 0."""

    name: str
    work: Callable[[], object]
    flops: int = 0
    moved_bytes: int = 0


@dataclass(frozen=True)
class Peaks:
    """The maximum over all kernels: floating-point operations and bytes per second, and the kernels that reached it."""

    flops: float
    gemm: str
    bandwidth: float
    stream: str

    def least_seconds(self, flops: int, moved_bytes: int) -> float:
        """Return the lower bound of the time from arithmetic and memory."""
        return max(flops / self.flops, moved_bytes / self.bandwidth)


def kernels(*, threads: int, array_bytes: int, memory_bytes: int) -> tuple[Kernel, ...]:
    """Return square matrix products of torch and numpy, and copy and triad as in McCalpin's STREAM, ready to run.

    The streams' arrays take `array_bytes` each, several times the largest cache; otherwise the cache is measured.
    torch is limited to `threads`; numpy uses all cores of the process. As in STREAM, write-allocate traffic is not
    counted. Raises UnavailableError if `memory_bytes` are too few for the arrays.
    """
    if 4 * array_bytes > memory_bytes:
        raise UnavailableError(
            f"Memory bandwidth is measured with three arrays of {human_bytes(array_bytes)}, but this machine has "
            f"{human_bytes(memory_bytes)}. Give a smaller --array_gb of at least several times the largest cache."
        )
    torch.set_num_threads(threads)
    first, second, third = (torch.ones(array_bytes // 4) for _ in range(3))
    return (
        *(_gemm(library, size) for library, size in _GEMMS),
        Kernel("copy, a = b", partial(first.copy_, second), moved_bytes=2 * array_bytes),
        Kernel(
            "triad, a = b + 3 c",
            partial(torch.add, second, third, alpha=3, out=first),
            moved_bytes=3 * array_bytes,
        ),
    )


def peaks(ran: Sequence[Kernel], seconds: Mapping[str, float]) -> Peaks:
    """Return the peaks of the kernels, whose fastest runs took `seconds` by name."""
    flops, gemm = max((kernel.flops / seconds[kernel.name], kernel.name) for kernel in ran)
    bandwidth, stream = max((kernel.moved_bytes / seconds[kernel.name], kernel.name) for kernel in ran)
    return Peaks(flops, gemm, bandwidth, stream)


def _gemm(library: str, size: int) -> Kernel:
    left, right = torch.randn(2, size, size, generator=torch.Generator().manual_seed(size))
    out = torch.empty(size, size)
    product: Callable[[], object] = partial(torch.mm, left, right, out=out)
    if library == "numpy":
        product = partial(np.matmul, left.numpy(), right.numpy(), out=out.numpy())
    return Kernel(f"{library}, {size} × {size}", product, flops=2 * size**3)
