"""Inference as ais_bench does it, by the engine that fits the model and the machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from infer.batches.in_process import run_in_process
from infer.batches.performance import InferenceResult
from infer.engines.ascend.ais_bench_run import run_ascend
from infer.engines.choice import choose_engine
from infer.engines.engine_options import AscendOptions
from infer.infer_options import InferOptions
from vidom.folder_lock import locked_folder

__all__ = ["InferOptions", "infer"]


def infer(
    options: InferOptions, *, args: Sequence[str] | None = None, say: Callable[[str], None] = print
) -> InferenceResult:
    """Write the outputs of every input file to `{output}/{output_dirname}`, the summary next to that folder.

    Without `input`, zeros or random bytes are run `loop` times as one batch; without `output` nothing is written.
    After a run in bf16, some of its samples are computed in f32 too; the differences are reported and are part of the
    summary. `args` is the command line that the summary records (default: this process's), `say` takes the lines of
    the result.

    Raises UsageError, BadDataError or UnavailableError before anything is run wherever that can be known, also when
    another process writes to the same folder, ExternalToolError when ais_bench fails.
    """
    model = None if options.model is None else Path(options.model)
    choice = choose_engine(model, options.engine, options.recipe)
    say(f"[INFO] engine {choice.options.name}: {choice.reason}")
    options = replace(options, model=choice.model, engine=choice.options)
    if options.output is not None:
        name = options.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
        options = replace(options, output_dirname=name)
    with _locked(options):
        if isinstance(choice.options, AscendOptions):
            return run_ascend(options, choice.options, say=say)
        return run_in_process(options, choice.options, args=sys.argv if args is None else args, say=say)


def _locked(options: InferOptions) -> AbstractContextManager[None]:
    """Return the lock of the run's folder; runs of other names may share `output`."""
    if options.output is None:
        return nullcontext()
    # ais_bench takes no other mode.
    mode = 0o750 if isinstance(options.engine, AscendOptions) else 0o777
    return locked_folder(Path(options.output, str(options.output_dirname)), mode=mode)
