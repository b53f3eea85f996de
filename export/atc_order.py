"""One model to be compiled: what for, from which folder, by which command."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from export.atc import AtcOptions, GraphInput, atc_command
from export.cann_versions import Release
from export.commands import commands_script
from export.lint import Subject
from vidom.errors import UsageError

__all__ = ["Order", "graph_inputs"]


@dataclass(frozen=True)
class Order:
    """What is to be compiled, for which chip and release."""

    model: Path
    om: Path
    inputs: tuple[GraphInput, ...]
    batch_size: int | None
    soc_version: str
    options: AtcOptions
    release: Release | None

    @property
    def work(self) -> Path:
        """The folder that ATC runs in, where its `fusion_result.json` and `kernel_meta` stay."""
        return self.om.with_suffix(".atc")

    def command(self, folder: Path, *, program: str = "atc") -> list[str]:
        """Return the ATC command as it is typed in `folder`, where it leaves the model.

        Raises UsageError as `atc_command` does, and for an option that names no file.
        """
        for option, file in self.files.items():
            if not file.is_file():
                raise UsageError(f"There is no file {file}, which --{option} names.")

        def seen(file: Path | None) -> Path | None:
            return None if file is None else Path(os.path.relpath(file, folder))

        return atc_command(
            model=os.path.relpath(self.model, folder),
            output=self.om.stem,
            inputs=self.inputs,
            soc_version=self.soc_version,
            batch_size=self.batch_size,
            options=replace(
                self.options,
                op_precision_mode=seen(self.options.op_precision_mode),
                keep_dtype=seen(self.options.keep_dtype),
                insert_op_conf=seen(self.options.insert_op_conf),
            ),
            cann=self.release,
            program=program,
        )

    @property
    def files(self) -> dict[str, Path]:
        """The files that options name, by option."""
        named = (
            (name, getattr(self.options, name))
            for name in ("op_precision_mode", "keep_dtype", "insert_op_conf")
        )
        return {name: file for name, file in named if file is not None}

    def script(self) -> str:
        """Return `commands.sh` as it stands beside the model."""
        folder = self.om.parent
        return commands_script(
            command=self.command(folder),
            name=self.om.stem,
            vidom=os.path.relpath(Path(__file__).resolve().parents[1], folder),
            profiles=self.options.dynamic_batch_size,
        )


def graph_inputs(subject: Subject) -> tuple[GraphInput, ...]:
    """Return the inputs of the graph that are no weights, in its order."""
    found = ((str(value.name), subject.dims(value) or ()) for value in subject.inputs)
    return tuple(
        GraphInput(name, tuple(size if isinstance(size, int) else None for size in dims))
        for name, dims in found
    )
