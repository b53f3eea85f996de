"""Surgery on an exported graph: `python export/modify_onnx.py -m1 tsm_bs8.onnx -m2 tsm_new_bs8.onnx -bs 8`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.auto_optimizer.external_optimizer import find_auto_optimizer, run_auto_optimizer
from export.auto_optimizer.rules import rule_table, selected_rules
from export.build_record import code_digest, is_fresh, read_record, write_record
from export.surgery.input_sizes import InputSizes, parse_input_sizes, set_input_sizes
from export.surgery.model_file import load_model, model_bytes
from export.surgery.operator_counts import OperatorCounts, count_operators, operator_table
from export.surgery.pass_manager import PASSES, current_names, run_passes
from export.surgery.pass_types import AverageClips, Target
from export.surgery.values import batch_of
from export.verification.equivalence import check_equivalence
from export.verification.session import TIME_LIMIT
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.files import sha256_file, write_bytes
from vidom.folder_lock import locked_folder
from vidom.options import add_options, option, options_from
from vidom.parity import Flip, Parity, render

__all__ = ["Modification", "ModifyOnnxOptions", "as_text", "main", "modify_onnx"]

_log = logging.getLogger(__name__)

AUTO_OPTIMIZER = "auto-optimizer"


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


def _rules(text: str) -> tuple[str, ...]:
    optimizer, equals, names = text.partition("=")
    rules = _names(names)
    if optimizer.replace("_", "-") != AUTO_OPTIMIZER or bool(equals) != bool(rules):
        raise argparse.ArgumentTypeError(
            f"expected {AUTO_OPTIMIZER} or {AUTO_OPTIMIZER}=NAME,NAME, found {text!r}"
        )
    return rules


@dataclass(frozen=True, kw_only=True)
class ModifyOnnxOptions:
    """Optimize an exported ONNX graph for deployment and check its parity with the original."""

    model: Path = option("the graph as exported", "-m1")
    output: Path = option("the optimized graph to write", "-m2")
    batch_size: int | None = option(
        "batch size to write into the graph; unchanged if omitted", "-bs", default=None
    )
    input_shape: InputSizes = option(
        "sizes that the graph leaves open, in ATC's spelling, as in clips:1,8,3,224,224",
        default=(),
        metavar="NAME:SIZE,...",
        parse=parse_input_sizes,
    )
    passes: tuple[str, ...] | None = option(
        "comma-separated passes to run instead of all; none only with --with", default=None, parse=_names
    )
    auto_optimizer: tuple[str, ...] | None = option(
        "run auto-optimizer after the passes, with the given rewrite rules (default: its enabled set)",
        "--with",
        default=None,
        metavar=f"{AUTO_OPTIMIZER}[=NAME,...]",
        parse=_rules,
    )
    time_limit: float = option(
        "seconds after which auto-optimizer, or ONNX Runtime with a batch of the comparison, is stopped",
        default=TIME_LIMIT,
    )
    average_clips: AverageClips = option(
        "score: softmax of a sample's mean logits, as ModelZoo's script; prob: mean of its clips' probabilities, as "
        "mmaction2; keep: one row per clip",
        default="score",
    )
    target: Target = option(
        "what runs the graph: the NPU through ATC, or cpu: ONNX Runtime, OpenVINO; --list shows the passes",
        default="ascend310p",
    )

    def __post_init__(self) -> None:
        """Raise UsageError for a batch size without the pass that sets it, and for an output that is the input."""
        if self.passes is not None and not self.passes and self.batch_size is not None:
            raise UsageError("The batch size is set by the pass set-batch, which --passes none leaves out.")
        if self.model.resolve() == self.output.resolve():
            raise UsageError(
                f"-m1 and -m2 both name {self.model}; the original is needed for comparison. Choose a different output."
            )

    @property
    def rules(self) -> tuple[str, ...] | None:
        """The rewrite rules of auto-optimizer in its order, None without it. Raises UsageError for unknown ones."""
        return None if self.auto_optimizer is None else selected_rules(self.auto_optimizer)

    def made_from(self) -> dict[str, Any]:
        """Return everything that determines the result."""
        return {
            "model": self.model.name,
            "model_sha256": sha256_file(self.model),
            "code_sha256": code_digest(),
            "batch_size": self.batch_size,
            "input_shape": [[name, list(sizes)] for name, sizes in self.input_shape],
            "passes": None if self.passes is None else sorted(current_names(self.passes)),
            "average_clips": self.average_clips,
            "target": self.target,
            "auto_optimizer": None if self.rules is None else list(self.rules),
        }


@dataclass(frozen=True)
class Modification:
    """The operators before and after, what changed the graph, and the parity of each output with the original."""

    operators_before: OperatorCounts
    operators_after: OperatorCounts
    changed_by: tuple[str, ...]
    parities: tuple[Parity, ...]

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return bool(self.parities) and all(parity.passed for parity in self.parities)

    @property
    def facts(self) -> dict[str, Any]:
        """The modification as the build record holds it."""
        return {
            "census_before": self.operators_before,
            "census_after": self.operators_after,
            "changed_by": self.changed_by,
            "equivalence": [parity.facts for parity in self.parities],
        }

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Modification:
        """Return the modification that a build record describes."""
        parities = tuple(
            Parity(**{**entry, "flips": tuple(Flip(*flip) for flip in entry["flips"])})
            for entry in facts["equivalence"]
        )
        return cls(facts["census_before"], facts["census_after"], tuple(facts["changed_by"]), parities)


def modify_onnx(options: ModifyOnnxOptions) -> Modification:
    """Write the graph after surgery to `options.output` if it passes the parity check; otherwise remove that file.

    vidom's passes run first: those given, by default all that support the target, none for an empty tuple. Unless
    `auto_optimizer` is None, auto-optimizer follows, with the rewrite rules given there or its default ones for an
    empty tuple. Its complete output is in a log next to the graph.

    Steps and parity are recorded in `build.json` next to the output; an output that is up to date is not built again.

    Raises UsageError for unknown passes or rules or a batch size that does not fit, BadDataError for an invalid ONNX
    file, UnavailableError without auto-optimizer, ExternalToolError when it fails.
    """
    rules, output = options.rules, options.output
    original = load_model(options.model)
    made_from = options.made_from()
    if is_fresh(output, made_from):
        _log.info(f"{output} is up to date.")
        return Modification.of(read_record(output)["surgery"])
    set_input_sizes(original, options.input_shape)
    subject, changed_by, facts = _optimized(original, options, rules)
    _log.info("Comparing both graphs in ONNX Runtime on random samples.")
    parities = check_equivalence(
        original, subject, average_clips=options.average_clips, time_limit=options.time_limit
    )
    done = Modification(count_operators(original), count_operators(subject), changed_by, parities)
    if done.passed:
        write_bytes(output, model_bytes(subject))
        exported_from = read_record(options.model).get("made_from")
        write_record(output, made_from, exported_from=exported_from, surgery=done.facts, **facts)
    else:
        output.unlink(missing_ok=True)
    return done


def _optimized(
    original: ir.Model, options: ModifyOnnxOptions, rules: tuple[str, ...] | None
) -> tuple[ir.Model, tuple[str, ...], dict[str, Any]]:
    """Return the graph after passes and rewrite rules, what changed it, and the record's facts on auto-optimizer."""
    if rules is None:
        return (*_after_passes(original, options), {})
    interpreter = find_auto_optimizer()
    subject, changed_by = (original, ()) if options.passes == () else _after_passes(original, options)
    log_file = options.output.with_name(f"{options.output.stem}.{AUTO_OPTIMIZER}.log")
    _log.info(f"{AUTO_OPTIMIZER} is optimizing the graph; log: {log_file}")
    done = run_auto_optimizer(
        subject, rules=rules, interpreter=interpreter, log_file=log_file, time_limit=options.time_limit
    )
    if not done.applied:
        _log.info(f"No rewrite rule matched; {AUTO_OPTIMIZER} left the graph unchanged.")
    changed_by += tuple(f"{AUTO_OPTIMIZER}:{name}" for name in done.applied)
    return done.model, changed_by, {"auto_optimizer": {"applied": done.applied, "versions": done.versions}}


def _after_passes(original: ir.Model, options: ModifyOnnxOptions) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the graph after vidom's own passes and the names of those that changed something."""
    surgery = run_passes(
        original,
        passes=options.passes,
        batch_size=options.batch_size,
        average_clips=options.average_clips,
        target=options.target,
    )
    if batch_of(surgery.model) is None:
        _log.info("The batch is symbolic, so that shapes are computed at run time; -bs N fixes it.")
    return surgery.model, tuple(step.name for step in surgery.steps if step.modified)


class _List(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        width = max(len(item.name) for item in PASSES)
        targets = max(len(" ".join(item.targets)) for item in PASSES)
        for item in PASSES:
            print(f"{item.name:<{width}}  {' '.join(item.targets):<{targets}}  {item.summary}")
        print(f"\n--with {AUTO_OPTIMIZER}\n{rule_table()}")
        parser.exit()


def as_text(done: Modification) -> str:
    """Return what changed, the parity of the outputs and, as last line, PASSED or FAILED."""
    return "\n".join(
        (
            operator_table(done.operators_before, done.operators_after),
            f"passes that changed something: {', '.join(done.changed_by) or 'none'}",
            render(done.parities),
            "PASSED" if done.passed else "FAILED",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, optimize the graph, print what changed and whether the parity check passed."""
    parser = Parser(prog="modify_onnx.py", description=ModifyOnnxOptions.__doc__ or "")
    parser.add_argument(
        "--list", action=_List, nargs=0, help="list the passes and the rewrite rules and exit"
    )
    add_options(parser, ModifyOnnxOptions)
    given = vars(parser.parse_args(argv))
    options = options_from(ModifyOnnxOptions, given)
    with locked_folder(options.output.parent):
        done = modify_onnx(options)
    print(as_text(done), flush=True)
    if not done.passed:
        _log.error(f"Outputs differ beyond tolerance; {options.output} was not written.")
    return ExitCode.DONE if done.passed else ExitCode.CHECK_FAILED


if __name__ == "__main__":
    run(main)
