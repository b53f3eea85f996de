"""`python -m train`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from vidom.command import run
from vidom.errors import UnavailableError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int | None:
    """Train as the command line says. Raises UnavailableError where the optional packages of training are absent."""
    if find_spec("accelerate") is None:
        raise UnavailableError(
            "Training needs the optional package accelerate, which is not installed here. Type: make extras"
        )
    from train.training import main as train

    return train(argv)


if __name__ == "__main__":
    run(main)
