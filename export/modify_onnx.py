"""Surgery on an exported graph: `python export/modify_onnx.py -m1 tsm_bs8.onnx -m2 tsm_new_bs8.onnx -bs 8`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.surgery import (
    AVERAGES,
    PASSES,
    AverageClips,
    SurgeryResult,
    census_table,
    model_bytes,
    run_passes,
)
from export.surgery.equivalence import Equivalence, prove_equal
from export.surgery.model_file import load_model
from export.surgery.values import batch_of
from vidom.command import Parser, log, run
from vidom.errors import ExitCode, UsageError
from vidom.files import write_bytes

__all__ = ["Modification", "main", "modify_onnx"]


@dataclass(frozen=True)
class Modification:
    """What surgery did, and how far the result is from the original."""

    surgery: SurgeryResult
    equivalence: Equivalence


def modify_onnx(
    *,
    model: Path,
    output: Path,
    batch_size: int | None = None,
    passes: Sequence[str] | None = None,
    average_clips: AverageClips = "score",
) -> Modification:
    """`output` holds `model` after surgery if ONNX Runtime gives the same for both, and is not written if not.

    An `output` of an earlier run that no longer holds true is removed. Raises UsageError for unknown
    passes or a batch that does not fit, BadData for a file that is no valid ONNX model.
    """
    if model.resolve() == output.resolve():
        raise UsageError(
            f"-m1 and -m2 both name {model}; the original is needed for comparison. Name another output."
        )
    original = load_model(model)
    surgery = run_passes(original, passes=passes, batch_size=batch_size, average_clips=average_clips)
    content = model_bytes(surgery.model)
    if batch_of(surgery.model) is None:
        log("The batch is symbolic, which leaves shapes to run time; -bs N fixes it.")
    log("Comparing both graphs in ONNX Runtime on random samples.")
    equivalence = prove_equal(original, surgery.model, average_clips=average_clips)
    if equivalence.passed:
        write_bytes(output, content)
    else:
        output.unlink(missing_ok=True)
    return Modification(surgery, equivalence)


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
    parser.add_argument("--passes", type=_names, help="comma-separated passes to run instead of all")
    parser.add_argument(
        "--average_clips",
        choices=AVERAGES,
        default="score",
        help="score: softmax of a sample's mean logits, as ModelZoo's script; prob: mean of its clips' probabilities, "
        "as mmaction2; keep: one row per clip",
    )
    parser.add_argument("--list", action="store_true", help="list the passes and stop")
    options = parser.parse_args(argv)
    if options.list:
        width = max(len(item.name) for item in PASSES)
        print("\n".join(f"{item.name:<{width}}  {item.summary}" for item in PASSES))
        return ExitCode.DONE
    if options.model is None or options.output is None:
        parser.error("-m1 (the exported graph) and -m2 (the graph to write) are needed, or --list")
    done = modify_onnx(
        model=options.model,
        output=options.output,
        batch_size=options.batch_size,
        passes=options.passes,
        average_clips=options.average_clips,
    )
    return _tell(done, options.output)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tell(done: Modification, output: Path) -> int:
    print(census_table(done.surgery.census_before, done.surgery.census_after))
    changed = [step.name for step in done.surgery.steps if step.modified]
    print(f"passes that changed something: {', '.join(changed) or 'none'}")
    print(done.equivalence.lines())
    if not done.equivalence.passed:
        log(f"The rewritten graph gives other results; {output} was not written.")
    print("PASSED" if done.equivalence.passed else "FAILED", flush=True)
    return ExitCode.DONE if done.equivalence.passed else ExitCode.JUDGEMENT_FAILED


if __name__ == "__main__":
    run(main)
