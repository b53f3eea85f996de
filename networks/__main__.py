"""Inspect a checkpoint file: `python -m networks inspect FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from networks import inspection
from vidom.command import Parser, run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run `inspect` with the remaining words of the command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["inspect"]:
        inspection.main(words[1:])
        return
    parser = Parser(prog="python -m networks", description="Inspect checkpoint files.")
    parser.add_argument("command", choices=("inspect",), help="show what a checkpoint file contains")
    parser.parse_args(words)


if __name__ == "__main__":
    run(main)
