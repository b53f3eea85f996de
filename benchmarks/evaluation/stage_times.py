"""The two stages of an evaluation, decoding and engine, alone and combined."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring.interleaved import interleave
from demo.dataset import generate_frames
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.engine_options import OnnxRuntimeOptions
from infer.evaluation.batches import BatchSource, sample_dtype
from infer.evaluation.buffers import TensorStream
from infer.evaluation.plan import plan_evaluation
from infer.evaluation.record import RowRecord
from preprocess.datasets.annotations import read_annotations
from vidom.formats.recipe import Recipe, load_recipe

__all__ = ["Case", "StageTimes", "build", "command", "demo_case", "repeated", "stage_times"]

DEMO_CHECKPOINT = Path(__file__).resolve().parents[2] / "demo" / "checkpoints" / "tsm_demo.pth"
BATCH = 4


@dataclass(frozen=True)
class Case:
    """A recipe, its model, and a list of samples below a folder."""

    recipe: Recipe
    model: Path
    data_root: Path
    ann_file: Path


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds per sample of decoding, engine and both combined, with `workers` and `threads` cores."""

    what: str
    workers: int
    threads: int
    decode: float
    engine: float
    combined: float

    @property
    def over_slower(self) -> float:
        """The combined wall time over that of the slower stage alone."""
        return self.combined / max(self.decode, self.engine)

    @property
    def over_sum(self) -> float:
        """The combined wall time over the sum of both stages."""
        return self.combined / (self.decode + self.engine)


def build(recipe: Recipe, checkpoint: str, folder: Path) -> Path:
    """Return the recipe's model after surgery, batch 4 for the demo's small samples and 1 for others."""
    batch = BATCH if recipe.name == "tsm_demo" else 1
    naive, final = folder / f"{recipe.name}.onnx", folder / f"{recipe.name}_new.onnx"
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=checkpoint, output=naive, batch_size=batch))
    modify_onnx(ModifyOnnxOptions(model=naive, output=final, batch_size=batch, target="cpu"))
    return final


def demo_case(folder: Path) -> Case:
    """Generate the demo's videos and frames and its trained model in `folder` and return them."""
    recipe = load_recipe("tsm_demo")
    data = generate_frames(folder / "demo")
    model = build(recipe, str(DEMO_CHECKPOINT), folder)
    return Case(recipe, model, data.root / "rawframes", data.frame_list("validation"))


def repeated(case: Case, samples: int, folder: Path) -> Case:
    """Return the case with `samples` samples, its own repeated under unique names."""
    folder.mkdir(parents=True)
    entries = read_annotations(case.ann_file)
    lines = []
    for number in range(samples):
        entry = entries[number % len(entries)]
        (folder / f"{number:06d}").symlink_to((case.data_root / entry.path).resolve())
        lines.append(f"{number:06d} {entry.total_frames} {entry.label}\n")
    listed = folder.with_suffix(".txt")
    listed.write_text("".join(lines))
    return Case(case.recipe, case.model, folder, listed)


def stage_times(case: Case, what: str, *, workers: int, threads: int, rounds: int) -> StageTimes:
    """Return the interleaved times of a case's stages; the decoding processes are running before timing starts."""
    plan = plan_evaluation(recipe=case.recipe, data_root=case.data_root, ann_file=case.ann_file)
    source = BatchSource.of(plan, model=case.model, options=OnnxRuntimeOptions(threads=threads))
    model = source.open()
    (spec,) = model.identity.inputs
    batches = source.blocks(plan, model.identity)
    maker = source.maker(sample_dtype(spec))
    sample_batch = maker.batch(batches[0], spec.by_sample)
    with TensorStream(maker, spec.by_sample, workers=workers) as stream:
        for _ in stream.batches([batches[0]] * 4 * workers):
            pass

        def decode() -> None:
            for _ in stream.batches(batches):
                pass

        def compute() -> None:
            for _ in batches:
                model.compute(sample_batch)

        def combined() -> None:
            with TemporaryDirectory() as folder:
                record = RowRecord(Path(folder), {})
                for batch in stream.batches(batches):
                    record.add(model.compute(batch).rows)
                record.close()

        variants: dict[str, Callable[[], object]] = {
            "decode": decode,
            "engine": compute,
            "combined": combined,
        }
        seconds = interleave(variants, rounds=rounds)
    each = {name: 1e3 * spent / len(plan.jobs) for name, spent in seconds.items()}
    return StageTimes(what, workers, threads, each["decode"], each["engine"], each["combined"])


def command(case: Case, output_dir: Path) -> list[str]:
    """Return the command line that evaluates the case."""
    words = {
        "recipe": case.recipe.name,
        "model": case.model,
        "data_root": case.data_root,
        "ann_file": case.ann_file,
        "output_dir": output_dir,
        "engine": "onnxruntime",
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "infer.evaluate", *options]
