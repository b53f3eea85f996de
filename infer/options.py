"""What ais_bench's options may be, checked before the model is loaded."""

from __future__ import annotations

from pathlib import Path, PurePath

from infer.reading import PURE_DATA_TYPES
from vidom.errors import UsageError
from vidom.results import OUTPUT_FORMATS

__all__ = ["check_choices", "check_counts", "check_folder"]

_LEAST = {
    "loop": 1,
    "warmup_count": 0,
    "output_batchsize_axis": 0,
    "batchsize": 1,
    "dymBatch": 1,
    "threads": 1,
}


def check_counts(**counts: int | None) -> None:
    """Every number that is given is in its range, else UsageError."""
    for name, value in counts.items():
        if value is not None and value < _LEAST[name]:
            raise UsageError(f"--{name} must be at least {_LEAST[name]}, found {value}.")


def check_choices(*, outfmt: str, pure_data_type: str) -> None:
    """Every word is one of its choices, else UsageError."""
    for name, word, choices in (
        ("outfmt", outfmt, OUTPUT_FORMATS),
        ("pure_data_type", pure_data_type, PURE_DATA_TYPES),
    ):
        if word not in choices:
            raise UsageError(f"--{name} must be one of {', '.join(choices)}, found {word!r}.")


def check_folder(*, output: Path | str | None, output_dirname: str | None) -> None:
    """The run's folder lies within `output`, else UsageError."""
    if output_dirname is None:
        return
    if output is None:
        raise UsageError("--output_dirname can not be used alone: give --output, the folder to make it in.")
    name = PurePath(output_dirname)
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise UsageError(
            f"--output_dirname {output_dirname!r} must be a folder within --output, neither an absolute path "
            "nor one with `..`."
        )
