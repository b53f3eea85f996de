"""Inference as ais_bench does it, by the engine that fits the model and the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from infer.batches.in_process import run_in_process
from infer.batches.performance import InferenceResult
from infer.engines.ascend.ais_bench_run import run_ascend
from infer.engines.choice import choose_engine
from infer.engines.engine_options import AscendOptions
from infer.infer_options import InferOptions

__all__ = ["InferOptions", "infer"]


def infer(
    options: InferOptions, *, args: Sequence[str] | None = None, say: Callable[[str], None] = print
) -> InferenceResult:
    """Write the outputs of every input file to `{output}/{output_dirname}`, the summary next to that folder.

    Without `input`, zeros or random bytes are run `loop` times as one batch; without `output` nothing is written.
    After a run in bf16, some of its samples are computed in f32 too; the differences are reported and are part of the
    summary. `args` is the command line that the summary records (default: this process's), `say` takes the lines of
    the result.

    Raises UsageError, BadDataError or UnavailableError before anything is run wherever that can be known,
    ExternalToolError when ais_bench fails.
    """
    choice = choose_engine(Path(options.model), options.engine)
    say(f"[INFO] engine {choice.options.name}: {choice.reason}")
    options = replace(options, model=choice.model, engine=choice.options)
    if isinstance(choice.options, AscendOptions):
        return run_ascend(options, choice.options, say=say)
    return run_in_process(options, choice.options, args=sys.argv if args is None else args, say=say)
