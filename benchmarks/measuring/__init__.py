"""Shared by all benchmarks: interleaved runs, settings, memory, reports, times of graphs."""
