"""`python -m benchmarks.extraction`; worker processes cannot import functions of a module that is run like this one."""

from __future__ import annotations

from benchmarks.extraction.extraction_benchmark import main
from vidom.command import run

if __name__ == "__main__":
    run(main)
