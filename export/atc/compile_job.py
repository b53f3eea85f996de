"""One model to be compiled: what for, from which folder, by which command."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from export.atc.cann_versions import Release
from export.atc.command_line import AtcOptions, GraphInput, atc_command
from export.atc.commands_script import commands_script
from export.lint import Subject
from vidom.errors import UsageError
from vidom.files import write_text
from vidom.formats.aipp import Aipp

__all__ = ["Order", "graph_inputs"]


@dataclass(frozen=True)
class Order:
    """What is to be compiled, for which chip and release.

    A model with `aipp` takes pictures that AIPP makes of uint8 files; `with_aipp` adds what ATC must know of it.
    """

    model: Path
    om: Path
    inputs: tuple[GraphInput, ...]
    batch_size: int | None
    soc_version: str
    options: AtcOptions
    release: Release | None
    aipp: Aipp | None = None

    @property
    def samples(self) -> int | None:
        """How many samples a model of pictures takes at once, which its dimension 0 does not tell; None for others."""
        lead = self.inputs[0].dims[0] if self.inputs and self.inputs[0].dims else None
        return lead // self.aipp.frames_per_sample if self.aipp and lead else None

    def with_aipp(self) -> Order:
        """Return the order with AIPP's configuration, which is written beside the model, or without AIPP itself.

        A configuration that the user names is taken instead. Raises UsageError for pictures that AIPP does not take.
        """
        if self.aipp is None:
            return self
        config = self.options.insert_op_conf
        if config is None:
            height, width = (size or 0 for size in self.inputs[0].dims[-2:])
            config = self.om.with_name(f"{self.om.stem}_aipp.cfg")
            write_text(config, self.aipp.config(name=self.om.name, width=width, height=height))
        return replace(self, options=replace(self.options, input_format="NCHW", insert_op_conf=config))

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
            vidom=os.path.relpath(Path(__file__).resolve().parents[2], folder),
            profiles=self.options.dynamic_batch_size,
            samples=self.samples,
        )


def graph_inputs(subject: Subject) -> tuple[GraphInput, ...]:
    """Return the inputs of the graph that are no weights, in its order."""
    found = ((str(value.name), subject.dims(value) or ()) for value in subject.inputs)
    rows = subject.aipp.frames_per_sample if subject.aipp else 1
    return tuple(
        GraphInput(name, tuple(size if isinstance(size, int) else None for size in dims), rows)
        for name, dims in found
    )
