"""Surgery on an exported graph: `python export/modify_onnx.py -m1 tsm_bs8.onnx -m2 tsm_new_bs8.onnx -bs 8`."""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.auto_optimizer.external_optimizer import find_auto_optimizer, run_auto_optimizer
from export.auto_optimizer.rules import rule_table, selected_rules
from export.build_record import code_digest, is_fresh, read_record, write_record
from export.surgery.model_file import load_model, model_bytes
from export.surgery.operator_counts import OperatorCounts, count_operators, operator_table
from export.surgery.pass_types import AVERAGES, TARGETS, AverageClips, Target
from export.surgery.run import PASSES, run_passes
from export.surgery.values import batch_of
from export.verification.equivalence import Difference, Equivalence, prove_equal
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.files import sha256_file, write_bytes

__all__ = ["Modification", "main", "modify_onnx"]

_log = logging.getLogger(__name__)

AUTO_OPTIMIZER = "auto-optimizer"


@dataclass(frozen=True)
class Modification:
    """The operators before and after, the passes that changed something, and how far the results are apart."""

    census_before: OperatorCounts
    census_after: OperatorCounts
    changed_by: tuple[str, ...]
    equivalence: Equivalence


def modify_onnx(
    *,
    model: Path,
    output: Path,
    batch_size: int | None = None,
    passes: Sequence[str] | None = None,
    average_clips: AverageClips = "score",
    target: Target = "ascend310p",
    auto_optimizer: Sequence[str] | None = None,
    time_limit: float = 600.0,
) -> Modification:
    """`output` holds `model` after surgery if ONNX Runtime gives the same for both, and does not exist if not.

    First vidom's `passes` operate, for None all that serve `target`, none where the list is empty; then, unless
    `auto_optimizer` is None, auto-optimizer with the knowledges named there, with those that it applies unasked where
    the list is empty, for at most `time_limit` seconds. All that it prints is in a log beside `output`.

    What was done and proved stands in `build.json` beside `output`; an `output` that was made from the same
    model, options and code is left alone. Raises UsageError for unknown passes or knowledges or a batch that does not
    fit, BadDataError for a file that is no valid ONNX model, UnavailableError without auto-optimizer, ExternalToolError when that
    fails.
    """
    if passes is not None and not passes and batch_size is not None:
        raise UsageError("The batch is written by the pass set-batch, which --passes none leaves out.")
    if model.resolve() == output.resolve():
        raise UsageError(
            f"-m1 and -m2 both name {model}; the original is needed for comparison. Name another output."
        )
    knowledges = None if auto_optimizer is None else selected_rules(auto_optimizer)
    order = _Order(passes, batch_size, average_clips, target, knowledges, time_limit)
    original = load_model(model)
    made_from = order.made_from(model)
    if is_fresh(output, made_from):
        _log.info(f"{output} is up to date.")
        return _recorded(read_record(output)["surgery"])
    subject, changed_by, facts = _operated(original, order, output)
    _log.info("Comparing both graphs in ONNX Runtime on random samples.")
    equivalence = prove_equal(original, subject, average_clips=average_clips)
    done = Modification(count_operators(original), count_operators(subject), changed_by, equivalence)
    if equivalence.passed:
        write_bytes(output, model_bytes(subject))
        exported_from = read_record(model).get("made_from")
        write_record(output, made_from, exported_from=exported_from, surgery=asdict(done), **facts)
    else:
        output.unlink(missing_ok=True)
    return done


@dataclass(frozen=True)
class _Order:
    """What is to be done to a graph; `knowledges` is None without auto-optimizer."""

    passes: Sequence[str] | None
    batch_size: int | None
    average_clips: AverageClips
    target: Target
    knowledges: tuple[str, ...] | None
    time_limit: float

    def made_from(self, model: Path) -> dict[str, Any]:
        """Return all that shapes what comes out."""
        return {
            "model": model.name,
            "model_sha256": sha256_file(model),
            "code_sha256": code_digest(),
            "batch_size": self.batch_size,
            "passes": None if self.passes is None else sorted(self.passes),
            "average_clips": self.average_clips,
            "target": self.target,
            "auto_optimizer": None if self.knowledges is None else list(self.knowledges),
        }


def _operated(
    original: ir.Model, order: _Order, output: Path
) -> tuple[ir.Model, tuple[str, ...], dict[str, Any]]:
    """Return the graph after all that was ordered, what changed it, and what the record says of auto-optimizer."""
    if order.knowledges is None:
        return (*_by_passes(original, order), {})
    interpreter = find_auto_optimizer()
    subject, changed_by = (
        (original, ()) if order.passes is not None and not order.passes else _by_passes(original, order)
    )
    log_file = output.with_name(f"{output.stem}.{AUTO_OPTIMIZER}.log")
    _log.info(f"{AUTO_OPTIMIZER} operates on the graph; what it prints goes to {log_file}.")
    operation = run_auto_optimizer(
        subject,
        rules=order.knowledges,
        interpreter=interpreter,
        log_file=log_file,
        time_limit=order.time_limit,
    )
    if not operation.applied:
        _log.info(f"No rewrite rule matched; {AUTO_OPTIMIZER} left the graph unchanged.")
    changed_by += tuple(f"{AUTO_OPTIMIZER}:{name}" for name in operation.applied)
    facts = {"applied": operation.applied, "versions": operation.versions}
    return operation.model, changed_by, {"auto_optimizer": facts}


def _by_passes(original: ir.Model, order: _Order) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the graph after vidom's own passes and the names of those that changed something."""
    surgery = run_passes(
        original,
        passes=order.passes,
        batch_size=order.batch_size,
        average_clips=order.average_clips,
        target=order.target,
    )
    if batch_of(surgery.model) is None:
        _log.info("The batch is symbolic, which leaves shapes to run time; -bs N fixes it.")
    return surgery.model, tuple(step.name for step in surgery.steps if step.modified)


def _recorded(surgery: dict[str, Any]) -> Modification:
    differences = tuple(Difference(**entry) for entry in surgery["equivalence"]["differences"])
    return Modification(
        surgery["census_before"],
        surgery["census_after"],
        tuple(surgery["changed_by"]),
        Equivalence(differences),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, operate, print what changed and whether the meaning stayed."""
    parser = Parser(
        description="Rewrite an exported ONNX graph for deployment and prove that it still means the same."
    )
    parser.add_argument("--model", "-m1", type=Path, help="the graph as exported")
    parser.add_argument("--output", "-m2", type=Path, help="where the rewritten graph goes")
    parser.add_argument(
        "--batch_size", "-bs", type=int, help="the batch to write into the graph; kept if not given"
    )
    parser.add_argument(
        "--passes", type=_names, help="comma-separated passes to run instead of all; none only with --with"
    )
    parser.add_argument(
        "--with",
        dest="auto_optimizer",
        type=_knowledges,
        metavar=f"{AUTO_OPTIMIZER}[=NAME,...]",
        help="let auto-optimizer operate after the passes, with the knowledges named or those it applies unasked",
    )
    parser.add_argument(
        "--time_limit", type=float, default=600.0, help="seconds after which auto-optimizer is stopped"
    )
    parser.add_argument(
        "--average_clips",
        choices=AVERAGES,
        default="score",
        help="score: softmax of a sample's mean logits, as ModelZoo's script; prob: mean of its clips' "
        "probabilities, as mmaction2; keep: one row per clip",
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="ascend310p",
        help="what runs the graph: the NPU through ATC, or cpu: ONNX Runtime, OpenVINO; --list tells the passes",
    )
    parser.add_argument("--list", action="store_true", help="list passes and knowledges and stop")
    options = parser.parse_args(argv)
    if options.list:
        width = max(len(item.name) for item in PASSES)
        targets = max(len(" ".join(item.targets)) for item in PASSES)
        for item in PASSES:
            print(f"{item.name:<{width}}  {' '.join(item.targets):<{targets}}  {item.summary}")
        print(f"\n--with {AUTO_OPTIMIZER}\n{rule_table()}")
        return ExitCode.DONE
    if options.model is None or options.output is None:
        parser.error("-m1 (the exported graph) and -m2 (the graph to write) are needed, or --list")
    done = modify_onnx(
        model=options.model,
        output=options.output,
        batch_size=options.batch_size,
        passes=options.passes,
        average_clips=options.average_clips,
        target=options.target,
        auto_optimizer=options.auto_optimizer,
        time_limit=options.time_limit,
    )
    return _tell(done, options.output)


def _names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def _knowledges(text: str) -> list[str]:
    surgeon, equals, names = text.partition("=")
    found = _names(names)
    if surgeon.replace("_", "-") != AUTO_OPTIMIZER or bool(equals) != bool(found):
        raise ArgumentTypeError(f"expected {AUTO_OPTIMIZER} or {AUTO_OPTIMIZER}=NAME,NAME, found {text!r}")
    return found


def _tell(done: Modification, output: Path) -> int:
    print(operator_table(done.census_before, done.census_after))
    print(f"passes that changed something: {', '.join(done.changed_by) or 'none'}")
    print(done.equivalence.lines())
    if not done.equivalence.passed:
        _log.info(f"The rewritten graph gives other results; {output} was not written.")
    print("PASSED" if done.equivalence.passed else "FAILED", flush=True)
    return ExitCode.DONE if done.equivalence.passed else ExitCode.CHECK_FAILED


if __name__ == "__main__":
    run(main)
