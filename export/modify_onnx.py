"""Surgery on an exported graph: `python export/modify_onnx.py -m1 tsm_bs8.onnx -m2 tsm_new_bs8.onnx -bs 8`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.record import code_digest, is_fresh, read_record, write_record
from export.surgery import AVERAGES, PASSES, AverageClips, census_table, model_bytes, run_passes
from export.surgery.census import Census
from export.surgery.equivalence import Difference, Equivalence, prove_equal
from export.surgery.model_file import load_model
from export.surgery.values import batch_of
from vidom.command import Parser, log, run
from vidom.errors import ExitCode, UsageError
from vidom.files import sha256_file, write_bytes

__all__ = ["Modification", "main", "modify_onnx"]


@dataclass(frozen=True)
class Modification:
    """The operators before and after, the passes that changed something, and how far the results are apart."""

    census_before: Census
    census_after: Census
    changed_by: tuple[str, ...]
    equivalence: Equivalence


def modify_onnx(
    *,
    model: Path,
    output: Path,
    batch_size: int | None = None,
    passes: Sequence[str] | None = None,
    average_clips: AverageClips = "score",
) -> Modification:
    """`output` holds `model` after surgery if ONNX Runtime gives the same for both, and does not exist if not.

    What was done and proved stands in `build.json` beside `output`; an `output` that was made from the same
    model, options and code is left alone. Raises UsageError for unknown passes or a batch that does not fit,
    BadData for a file that is no valid ONNX model.
    """
    if model.resolve() == output.resolve():
        raise UsageError(
            f"-m1 and -m2 both name {model}; the original is needed for comparison. Name another output."
        )
    original = load_model(model)
    made_from = {
        "model": model.name,
        "model_sha256": sha256_file(model),
        "code_sha256": code_digest(),
        "batch_size": batch_size,
        "passes": None if passes is None else sorted(passes),
        "average_clips": average_clips,
    }
    if is_fresh(output, made_from):
        log(f"{output} is up to date.")
        return _recorded(read_record(output)["surgery"])
    surgery = run_passes(original, passes=passes, batch_size=batch_size, average_clips=average_clips)
    if batch_of(surgery.model) is None:
        log("The batch is symbolic, which leaves shapes to run time; -bs N fixes it.")
    log("Comparing both graphs in ONNX Runtime on random samples.")
    done = Modification(
        surgery.census_before,
        surgery.census_after,
        tuple(step.name for step in surgery.steps if step.modified),
        prove_equal(original, surgery.model, average_clips=average_clips),
    )
    if done.equivalence.passed:
        write_bytes(output, model_bytes(surgery.model))
        exported_from = read_record(model).get("made_from")
        write_record(output, made_from, exported_from=exported_from, surgery=asdict(done))
    else:
        output.unlink(missing_ok=True)
    return done


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
    parser.add_argument("--passes", type=_names, help="comma-separated passes to run instead of all")
    parser.add_argument(
        "--average_clips",
        choices=AVERAGES,
        default="score",
        help="score: softmax of a sample's mean logits, as ModelZoo's script; prob: mean of its clips' "
        "probabilities, as mmaction2; keep: one row per clip",
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
    print(census_table(done.census_before, done.census_after))
    print(f"passes that changed something: {', '.join(done.changed_by) or 'none'}")
    print(done.equivalence.lines())
    if not done.equivalence.passed:
        log(f"The rewritten graph gives other results; {output} was not written.")
    print("PASSED" if done.equivalence.passed else "FAILED", flush=True)
    return ExitCode.DONE if done.equivalence.passed else ExitCode.JUDGEMENT_FAILED


if __name__ == "__main__":
    run(main)
