"""Evaluate a model on a labelled list without storing a tensor: `python -m infer.evaluate --recipe tsm_sthv2 …`.

Videos are decoded into batches while the engine computes, and only results are written:

    OUTPUT_DIR/record.jsonl      a row of scores for each sample (see `infer.evaluation.score_record`)
    OUTPUT_DIR/metrics.json      the metrics (see `postprocess.metrics_file`)
    OUTPUT_DIR/evaluation.json   how they came about: engine, rates, what could not be read
    OUTPUT_DIR/comparison.json   with --compare: the same samples in another run, pair by pair

A run that was killed continues with the same command and ends with the same `metrics.json`, byte for byte, which is
also the one that packing, inference and scoring give.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from infer.engines.ascend.om_input import recorded_samples
from infer.engines.base import PRECISIONS, Precision
from infer.engines.choice import choose_engine
from infer.evaluation.compare import COMPARISON_NAME, Comparison, compare_records, record_in
from infer.evaluation.one_window import WindowedModel
from infer.evaluation.places import run_batches, run_windows
from infer.evaluation.plan import OnBad, Plan, Ran, plan_evaluation
from infer.evaluation.ray_stages import EngineOptions
from infer.evaluation.recheck import recheck
from infer.evaluation.record_metrics import METRICS_NAME, score_record
from infer.evaluation.score_record import RECORD_NAME, read_header
from infer.options import ENGINES, EngineName
from infer.precision_check import PrecisionCheck
from postprocess.metrics import Metrics
from postprocess.scored import Scored, accuracy_remarks, accuracy_text
from preprocess.pack import StoreDtype
from vidom.command import Parser, run
from vidom.errors import BadDataError, UsageError
from vidom.files import human_bytes, parse_bytes, write_json
from vidom.formats.clip_store import Skipped
from vidom.formats.recipe import Recipe, load_recipe
from vidom.parallel.ray_cluster import add_ray_option

__all__ = ["Evaluation", "conclude", "evaluate", "main"]

_log = logging.getLogger(__name__)

_WINDOW_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its metrics, what could not be read, what should be known, and what it took.

    `precision_check` belongs to bfloat16: what it changed of some samples.
    """

    metrics: Metrics
    metrics_path: Path
    skipped: tuple[Skipped, ...]
    remarks: tuple[str, ...]
    ran: Ran
    comparison: Comparison | None
    precision_check: PrecisionCheck | None


def evaluate(
    *,
    recipe: Recipe,
    data_root: Path,
    ann_file: Path,
    model: Path,
    output_dir: Path,
    engine: EngineName = "auto",
    precision: Precision | None = None,
    provider: str | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_bad: OnBad = "fail",
    compare: Path | None = None,
    window: int | None = None,
    dtype: StoreDtype | None = None,
    device: str = "0",
    ray: str | None = None,
) -> Evaluation:
    """Return the metrics of the model on the list; they and the record of all scores are in `output_dir`.

    Samples are made in the dtype of the model's input, whose batch has any size; `batch_size` is for a symbolic one.
    `workers` processes decode (default: one per core) while the engine runs on `threads`. With `limit` only so many
    samples are evaluated, drawn by class with `seed`. `compare` is another evaluation's folder or record.

    ais_bench reads files only: it is given `window` bytes of clips at a time (default: 2 GB), on `device`. An .om does
    not tell its `dtype` (default: float32, "aipp" where `build.json` says so), nor its `batch_size` without that file.

    `ray` is a cluster's address, or "local", whose nodes then decode and compute (see `infer.evaluation.on_ray`).

    Raises UsageError when model and recipe do not fit or the folder holds another evaluation, BadDataError at the first
    unreadable sample unless `on_bad` is "skip"; what was computed is kept, and the same call continues with it.
    """
    if any(count is not None and count < 1 for count in (workers, threads)):
        raise UsageError("--workers and --threads must be at least 1.")
    other = None if compare is None else record_in(compare)
    plan = plan_evaluation(recipe=recipe, data_root=data_root, ann_file=ann_file, limit=limit, seed=seed)
    choice = choose_engine(model, engine)
    _log.info(f"engine {choice.engine}: {choice.reason}")
    _log.info(plan.remark)
    if choice.engine == "ascend":
        _refuse({"--threads": threads, "--provider": provider, "--precision": precision}, "ascend")
        known: StoreDtype = "aipp" if recorded_samples(choice.model) else "float32"
        offline = WindowedModel(choice.model, dtype or known, batch_size, device)
        size = window or _WINDOW_BYTES
        ran = run_windows(plan, offline, output_dir, size, ray=ray, workers=workers, on_bad=on_bad)
        return conclude(plan, ran, output_dir, compare=other)
    _refuse({"--window": window, "--dtype": dtype}, choice.engine)
    options = EngineOptions(choice.model, choice.engine, batch_size, threads, provider, precision)
    ran = run_batches(plan, options, output_dir, ray=ray, workers=workers, on_bad=on_bad)
    return conclude(plan, ran, output_dir, compare=other, computed_by=options)


def conclude(
    plan: Plan,
    ran: Ran,
    output_dir: Path,
    *,
    compare: Path | None = None,
    computed_by: EngineOptions | None = None,
) -> Evaluation:
    """The metrics of the record in `output_dir`, and its comparison with another, are beside it and returned.

    What was `computed_by` an engine in bfloat16 is checked against float32.

    Raises BadDataError when no sample could be read, or as `score_record` does.
    """
    entries = {job.index: job.annotation for job in plan.jobs}
    skipped = tuple(
        Skipped(index, entries[index].id, entries[index].path, ran.faults[index])
        for index in sorted(ran.faults)
    )
    if len(skipped) == len(plan.jobs):
        raise BadDataError(
            f"None of the {len(skipped)} videos could be read. {skipped[0].id}: {skipped[0].reason}"
        )
    record, metrics = output_dir / RECORD_NAME, output_dir / METRICS_NAME
    scored = score_record(record, plan.jobs, ran.faults, recipe=plan.recipe, output=metrics)
    check = recheck(plan, computed_by, record) if computed_by else None
    facts = {**_facts(record, scored, skipped, ran), **(check.facts if check else {})}
    write_json(output_dir / "evaluation.json", facts)
    comparison = None
    if compare is not None:
        comparison = compare_records(record, compare, output=output_dir / COMPARISON_NAME)
    return Evaluation(scored.metrics, metrics, skipped, scored.remarks, ran, comparison, check)


def _refuse(given: Mapping[str, object], engine: str) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UsageError(f"{', '.join(names)} is not for --engine {engine}. Leave it out.")


def _facts(record: Path, scored: Scored, skipped: Sequence[Skipped], ran: Ran) -> dict[str, Any]:
    return {
        **read_header(record),
        "evaluated": scored.metrics.n,
        "top1": scored.metrics.top1.value,
        "top5": scored.metrics.top5.value,
        "resumed": ran.resumed,
        "seconds": ran.seconds,
        "engine_seconds": ran.engine_seconds,
        "peak_disk_bytes": ran.peak_disk_bytes,
        "skipped": [{"index": one.index, "id": one.id, "reason": one.reason} for one in skipped],
        "remarks": list(scored.remarks),
    }


def _parser() -> Parser:
    parser = Parser(
        prog="python -m infer.evaluate", description="Evaluate a model on a labelled list of videos."
    )
    add = parser.add_argument
    add("--recipe", required=True, help="name in om_models/ or path of a .yaml")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry")
    add("--data_root", type=Path, required=True, help="folder that the list's paths are relative to")
    add(
        "--ann_file",
        type=Path,
        required=True,
        help="`dir frames label` or `video label` a line; .json: packs",
    )
    add("--model", type=Path, required=True, help="the .onnx file, or for the NPU the .om")
    add("--output_dir", type=Path, required=True, help="where record and metrics go")
    add(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="auto: the NPU if it, ais_bench and the .om are here",
    )
    add("--precision", choices=PRECISIONS, help="of --engine openvino")
    add("--provider", help="ONNX Runtime's execution provider, e.g. CUDA; without it the CPU")
    add("--threads", type=int, help="of the engine; one per core if not given")
    add("--batch_size", type=int, help="for a symbolic batch axis, or an .om without build.json")
    add("--workers", type=int, help="processes that decode; one per core if not given")
    add("--limit", type=int, help="only so many samples, each class with its share")
    add("--seed", type=int, default=0, help="another seed draws other samples")
    add("--on_bad", choices=("fail", "skip"), default="fail", help="what an unreadable video does")
    add("--compare", type=Path, metavar="OTHER_RUN", help="folder of another evaluation, sample by sample")
    add("--window", help="bytes of clips on disk at a time, such as 2GB (the default); --engine ascend only")
    add("--dtype", choices=get_args(StoreDtype), help="of an .om's input (default: float32)")
    add("--device", default="0", help="NPU number, or several as 0,1")
    add_ray_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, evaluate, and print top-1 and top-5."""
    options = vars(_parser().parse_args(argv))
    recipe = load_recipe(options.pop("recipe"), options.pop("set"))
    window = options.pop("window")
    found = evaluate(recipe=recipe, window=None if window is None else parse_bytes(window), **options)
    print(accuracy_text(found.metrics))
    if found.comparison:
        print(found.comparison.text)
    for line in (*_lines(found), *accuracy_remarks(found.metrics), *found.remarks):
        _log.info(line)
    _log.info(f"metrics written to {found.metrics_path}")


def _lines(found: Evaluation) -> list[str]:
    ran, lines = found.ran, []
    if ran.resumed:
        lines.append(f"{ran.resumed} samples had been finished by an earlier run.")
    if ran.computed:
        lines.append(
            f"{ran.computed} samples in {ran.seconds:.1f} s: {ran.computed / ran.seconds:.2f} samples/s; the engine "
            f"computed for {100 * ran.engine_seconds / ran.seconds:.0f} % of the time."
        )
    if found.precision_check:
        lines.append(found.precision_check.text)
    if ran.peak_disk_bytes:
        lines.append(f"At most {human_bytes(ran.peak_disk_bytes)} of clips and outputs lay on disk.")
    if found.skipped:
        lines.append(f"{len(found.skipped)} videos could not be read and are not counted:")
        lines += [f"  {one.index} {one.id}: {one.reason}" for one in found.skipped]
    return lines


if __name__ == "__main__":
    run(main)
