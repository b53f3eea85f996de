"""Benchmarks. Every report names the engine and the device of its numbers."""

import vidom  # noqa: F401 - before torch, whose environment it sets
