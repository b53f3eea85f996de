"""Evaluate a model on a labelled list without storing tensors: `python -m infer.evaluate --recipe tsm_sthv2 …`.

Videos are decoded into batches while the engine computes, and only results are written:

    OUTPUT_DIR/record.jsonl      a row of scores per sample (see `infer.evaluation.record`)
    OUTPUT_DIR/metrics.json      the metrics (see `postprocess.metrics_file`)
    OUTPUT_DIR/evaluation.json   how they were computed: engine, rates, unreadable samples
    OUTPUT_DIR/comparison.json   with --compare: the same samples in a reference run, pair by pair

A killed run resumes when rerun and ends with the same `metrics.json`, byte for byte, which is also the one that
packing, inference and scoring give.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infer.engines.ascend.om_input import clip_dtype
from infer.engines.choice import choose_engine
from infer.engines.engine_options import AscendOptions
from infer.engines.engine_request import EngineRequest, engine_option
from infer.evaluation.batches import BatchSource
from infer.evaluation.chunks import ChunkSource
from infer.evaluation.comparison import record_in
from infer.evaluation.conclusion import Evaluation, conclude
from infer.evaluation.execution import OnBad, run_locally
from infer.evaluation.on_ray import run_on_ray
from infer.evaluation.plan import Plan, plan_evaluation
from postprocess.scored import accuracy_remarks, accuracy_text, log_remarks
from preprocess.pack_groups import StoreDtype
from vidom.command import run
from vidom.errors import UsageError
from vidom.files import parse_bytes
from vidom.folder_lock import locked_folder
from vidom.formats.mindspore_310 import Accuracy, accuracy_line, eval_line
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options
from vidom.parallel.ray_cluster import ray_option
from vidom.system.machine import usable_cores

__all__ = ["EvaluateOptions", "evaluate", "main"]

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a model on a labelled list of videos without writing tensors to disk."""

    recipe: Recipe = recipe_option()
    data_root: Path = option("folder that the paths of the list are relative to")
    ann_file: Path = option("list with `dir frames label` or `video label` per line; .json: packs")
    model: Path | None = option(
        "the .onnx file, or the .om for an NPU; none for --engine torch", default=None
    )
    output_dir: Path = option("folder for the record and the metrics")
    engine: EngineRequest = engine_option()
    batch_size: int | None = option(
        "size of a symbolic batch axis, batch of an .om without build.json, or of each device of torch",
        default=None,
    )
    workers: int | None = option("processes that decode (default: one per core)", default=None)
    limit: int | None = option(
        "evaluate a stratified subset of N samples (default: all)", metavar="N", default=None
    )
    seed: int = option("seed of the subset", default=0)
    on_bad: OnBad = option("stop at an unreadable video, or skip it", default="fail")
    compare: Path | None = option(
        "folder or record of a reference run to compare with, sample by sample",
        metavar="OTHER_RUN",
        default=None,
    )
    window: int | None = option(
        "bytes of clips on disk at a time, the size of a chunk, for --engine ascend (default: 2GB)",
        parse=parse_bytes,
        metavar="SIZE",
        default=None,
    )
    dtype: StoreDtype | None = option(
        "dtype of the input of an .om without build.json (default: float32)", default=None
    )
    ray: str | None = ray_option()

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}.")


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Return the metrics of the model on the list, and write them and the record of all scores to `output_dir`.

    Samples have the dtype of the model's input. Raises UsageError when model and recipe do not fit or the folder holds
    a different evaluation, UnavailableError when another process evaluates into it, BadDataError at the first
    unreadable sample unless `on_bad` is "skip"; what was computed is kept, and the same call resumes with it.
    """
    with locked_folder(options.output_dir):
        return _evaluate(options)


def _evaluate(options: EvaluateOptions) -> Evaluation:
    reference = None if options.compare is None else record_in(options.compare)
    plan = plan_evaluation(
        recipe=options.recipe,
        data_root=options.data_root,
        ann_file=options.ann_file,
        limit=options.limit,
        seed=options.seed,
    )
    source = _row_source(options, plan)
    _log.info(plan.remark)
    if options.ray is None:
        workers = options.workers or usable_cores()
        summary = run_locally(plan, source, options.output_dir, workers=workers, on_bad=options.on_bad)
    else:
        summary = run_on_ray(
            plan,
            source,
            options.output_dir,
            address=options.ray,
            workers=options.workers,
            on_bad=options.on_bad,
        )
    return conclude(plan, summary, options.output_dir, compare=reference, source=source)


def _row_source(options: EvaluateOptions, plan: Plan) -> BatchSource | ChunkSource:
    """Return the engine with what it needs: chunks of files for ais_bench, batches of arrays for any other engine."""
    choice = choose_engine(options.model, options.engine, options.recipe)
    _log.info(f"engine {choice.options.name}: {choice.reason}")
    if isinstance(choice.options, AscendOptions):
        return ChunkSource.of(
            plan,
            options.recipe,
            model=choice.model,
            options=choice.options,
            batch_size=options.batch_size,
            dtype=clip_dtype(choice.model, options.dtype),
            chunk_bytes=options.window or _CHUNK_BYTES,
        )
    foreign = [name for name in ("window", "dtype") if getattr(options, name) is not None]
    if foreign:
        raise UsageError(
            f"--{' and --'.join(foreign)} is for engines that read files, not for --engine {choice.options.name}. "
            "Leave it out."
        )
    return BatchSource.of(plan, model=choice.model, options=choice.options, batch_size=options.batch_size)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, evaluate, and print top-1 and top-5."""
    options = read_options(EvaluateOptions, argv, prog="python -m infer.evaluate")
    result = evaluate(options)
    print(accuracy_text(result.metrics))
    if options.recipe.checkpoint.framework == "mindspore":
        top1 = result.metrics.top1
        accuracy = Accuracy(top1.correct, top1.n)
        print(eval_line(accuracy), accuracy_line(accuracy), sep="\n")
    if result.comparison:
        print(result.comparison.text)
    log_remarks(_log, (*result.details, *accuracy_remarks(result.metrics), *result.remarks))
    _log.info(f"metrics written to {result.metrics_path}")


if __name__ == "__main__":
    run(main)
