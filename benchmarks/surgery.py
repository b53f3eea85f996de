"""What surgery does to each network's own export: `python -m benchmarks.surgery --output_dir run/surgery`.

Times are ratios of the fastest runs of both graphs, run in turn; nothing else of them means anything on a
machine that others use too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.surgeons_rows import conditions, measured_times, sample_of
from export.lint_onnx import lint_onnx
from export.modify_onnx import modify_onnx
from export.surgery.census import census
from export.surgery.model_file import load_model
from export.to_onnx import OPSETS, to_onnx
from export.verify import verify
from vidom.command import Parser, log, run
from vidom.errors import JudgementFailed
from vidom.files import write_json, write_text
from vidom.recipe import load_recipe

__all__ = ["Row", "main", "surgery"]

RECIPES = ("tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
CHECKPOINT = "seeded:0"


@dataclass(frozen=True)
class Row:
    """One recipe at one opset: operators before and after, the largest difference from torch over two batch
    sizes (relative to the largest logit), lint errors, and the modified graph's time over the exported one's, with
    and without ONNX Runtime's own rewriting.
    """

    recipe: str
    opset: int
    ops: tuple[int, int]
    slices: tuple[int, int]
    batches: tuple[int, ...]
    relative_logits: float
    lint_errors: int
    time: float
    time_as_written: float


def surgery(
    *, recipes: Sequence[str], output_dir: Path, rounds: int = 5, threads: int = 2
) -> tuple[Row, ...]:
    """Return a row for each recipe and opset; `surgery.md` and `surgery.json` in `output_dir` hold the table.

    Stand-in weights are used, since times and differences do not depend on training. A recipe of a view plan
    with several clips is exported for one view, which is what its convolutions see. Raises JudgementFailed when a
    graph does not compute what torch computes.
    """
    rows = [_row(name, opset, output_dir, rounds, threads) for name in recipes for opset in OPSETS]
    model = output_dir / f"{recipes[0]}_{OPSETS[0]}.onnx"
    under = conditions(model, sample_of(model), rounds=rounds, threads=threads)
    machine = (
        f"{under.processor}, {threads} threads, ONNX Runtime {under.onnxruntime}, fastest of {rounds} in turn"
    )
    write_text(output_dir / "surgery.md", markdown(rows, machine))
    write_json(
        output_dir / "surgery.json",
        {"machine": machine, "npu_used": False, "rows": [asdict(r) for r in rows]},
    )
    return tuple(rows)


def _row(name: str, opset: int, folder: Path, rounds: int, threads: int) -> Row:
    log(f"{name}, opset {opset}")
    recipe = load_recipe(name)
    recipe = recipe.one_view() if recipe.views.clips > 1 else recipe
    exported, modified = (folder / f"{name}_{opset}{suffix}.onnx" for suffix in ("", "_new"))
    to_onnx(recipe=recipe, checkpoint=CHECKPOINT, output=exported, opset=opset)
    modify_onnx(model=exported, output=modified, batch_size=1)
    parities = verify(recipe=recipe, checkpoint=CHECKPOINT, models=[exported, modified])
    if not all(parity.passed for parity in parities):
        raise JudgementFailed(f"{modified} does not compute what torch computes.")
    before, after = (census(load_model(path)) for path in (exported, modified))
    (slow, slow_written), (fast, fast_written) = measured_times(
        [exported, modified], sample_of(exported), rounds=rounds, threads=threads
    )
    return Row(
        recipe=name,
        opset=opset,
        ops=(sum(before.values()), sum(after.values())),
        slices=(before.get("Slice", 0), after.get("Slice", 0)),
        batches=tuple(sorted({parity.batch_size for parity in parities})),
        relative_logits=max(parity.relative_logits for parity in parities),
        lint_errors=sum(finding.severity == "error" for finding in lint_onnx(model=modified)),
        time=(fast or 0) / (slow or 1),
        time_as_written=(fast_written or 0) / (slow_written or 1),
    )


def markdown(rows: Sequence[Row], machine: str) -> str:
    """Return the rows as a table, the machine below it."""
    lines = [
        "| recipe | opset | ops | Slice | batches verified | max diff / max logit | lint errors | time | as written |",
        "|---|---:|---|---|---|---|---:|---:|---:|",
        *(
            f"| {row.recipe} | {row.opset} | {row.ops[0]} → {row.ops[1]} | {row.slices[0]} → {row.slices[1]} "
            f"| {', '.join(map(str, row.batches))} | {row.relative_logits:.1e} | {row.lint_errors} "
            f"| {row.time:.3f} | {row.time_as_written:.3f} |"
            for row in rows
        ),
        "",
        f"{machine}. time: modified over exported graph; as written: without ONNX Runtime's own rewriting. No NPU.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print the table."""
    parser = Parser(description="What surgery does to each network's own export: operators, parity, time.")
    parser.add_argument(
        "--recipes", nargs="+", default=RECIPES, help="recipes to export with stand-in weights"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("run/surgery"), help="graphs and tables")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each graph")
    options = parser.parse_args(argv)
    surgery(recipes=options.recipes, output_dir=options.output_dir, rounds=options.rounds)
    print((options.output_dir / "surgery.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    run(main)
