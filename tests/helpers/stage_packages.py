"""The packages whose texts the tests of wording and advice read."""

from __future__ import annotations

PACKAGES = (
    "vidom",
    "networks",
    "preprocess",
    "export",
    "infer",
    "postprocess",
    "train",
    "benchmarks",
    "demo",
)
