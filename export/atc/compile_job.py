"""A model to compile with ATC: its chip and release, its command and its script."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.atc.cann_versions import Release
from export.atc.command_line import AtcOptions, GraphInput, atc_command
from export.atc.commands_script import commands_script
from export.lint.subject import Subject
from vidom.errors import UsageError
from vidom.files import sha256_file, write_text
from vidom.formats.aipp import Aipp

__all__ = ["CompileJob", "graph_inputs"]


@dataclass(frozen=True)
class CompileJob:
    """A model, the chip and the release it is compiled for, and the options of ATC.

    A model with `aipp` takes images that AIPP makes of uint8 files; `with_aipp` adds the options that ATC needs for it.
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
        """The batch size of a model with AIPP, whose dimension 0 counts frames; None for other models."""
        rows = self.inputs[0].dims[0] if self.inputs and self.inputs[0].dims else None
        return rows // self.aipp.frames_per_sample if self.aipp and rows else None

    def with_aipp(self) -> CompileJob:
        """Return the job with AIPP's configuration, which is written next to the model, or the job itself without AIPP.

        A configuration given by the user has priority. Raises UsageError for images that AIPP does not accept.
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
    def work_folder(self) -> Path:
        """The working folder of ATC, where its `fusion_result.json` and `kernel_meta` stay."""
        return self.om.with_suffix(".atc")

    def command(self, folder: Path, *, program: str = "atc") -> list[str]:
        """Return the ATC command for the working folder `folder`, where ATC writes the model.

        Raises UsageError as `atc_command` does, and for an option that names a missing file.
        """
        for name, file in self.files.items():
            if not file.is_file():
                raise UsageError(f"There is no file {file}, which --{name} names.")

        def relative(file: Path | None) -> Path | None:
            return None if file is None else Path(os.path.relpath(file, folder))

        return atc_command(
            model=os.path.relpath(self.model, folder),
            output=self.om.stem,
            inputs=self.inputs,
            soc_version=self.soc_version,
            batch_size=self.batch_size,
            options=replace(
                self.options,
                op_precision_mode=relative(self.options.op_precision_mode),
                keep_dtype=relative(self.options.keep_dtype),
                insert_op_conf=relative(self.options.insert_op_conf),
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

    def inputs_of_build(self) -> dict[str, Any]:
        """Return what `build.json` records of the job's inputs, for the decision whether the model is up to date.

        `input_dtype` is that of the files for the compiled model's first input, which AIPP takes as uint8.
        """
        dtype = self.inputs[0].dtype if self.inputs else None
        return {
            "model_sha256": sha256_file(self.model),
            "files_sha256": {name: sha256_file(file) for name, file in self.files.items()},
            "frames_per_sample": self.aipp.frames_per_sample if self.aipp else None,
            "input_dtype": "uint8" if self.options.insert_op_conf else dtype,
        }

    def script(self) -> str:
        """Return the text of `commands.sh`, which is stored next to the model."""
        folder = self.om.parent
        return commands_script(
            command=self.command(folder),
            name=self.om.stem,
            vidom=os.path.relpath(Path(__file__).resolve().parents[2], folder),
            profiles=self.options.dynamic_batch_size,
            samples=self.samples,
        )


def graph_inputs(subject: Subject) -> tuple[GraphInput, ...]:
    """Return the inputs of the graph other than weights, in the graph's order."""
    rows = subject.aipp.frames_per_sample if subject.aipp else 1
    return tuple(
        GraphInput(
            str(value.name),
            tuple(size if isinstance(size, int) else None for size in subject.dims(value) or ()),
            rows,
            value.dtype.numpy().name if value.dtype else None,
        )
        for value in subject.inputs
    )
