"""Benchmarks. Every report names the engine and the device of its numbers."""
