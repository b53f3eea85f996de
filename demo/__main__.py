"""The complete pipeline on generated videos: `python -m demo`, the command of `make demo`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.dataset import generate_frames
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.to_onnx import ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, verify
from infer.batches.performance import InferenceResult
from infer.inference import InferOptions, infer
from postprocess.metrics import Metrics
from postprocess.score import ScoreOptions, score
from preprocess.pack import PackOptions, pack
from vidom.command import run
from vidom.errors import CheckFailedError
from vidom.folder_lock import locked_folder
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import Recipe, load_recipe
from vidom.options import option, read_options
from vidom.parity import render
from vidom.workspace import Workspace

__all__ = ["DemoOptions", "DemoResult", "demo", "main"]

_log = logging.getLogger(__name__)

BATCHES = (1, 4, 8)
LOOP = 50
REQUIRED_TOP1 = 0.95
RECIPE = "tsm_demo"
_CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Take a small TSM and its control through the complete pipeline on generated videos."""

    output_dir: Path = option("folder of all files", default=Workspace(recipe=RECIPE).run)


@dataclass(frozen=True)
class DemoResult:
    """Both networks' accuracy, and the TSM's speed at each batch size."""

    tsm: Metrics
    control: Metrics
    speed: tuple[InferenceResult, ...]
    seconds: float


def demo(options: DemoOptions) -> DemoResult:
    """Run the pipeline in the output folder and return the accuracies and speeds.

    The TSM and its control, the same network without the temporal shift, get the same generated videos. Files of an
    earlier run are reused. Raises CheckFailedError when a stage loses parity.
    """
    began, output_dir = time.monotonic(), options.output_dir
    _say(1, "Generate videos and extract their frames")
    data = generate_frames(output_dir / "data")
    recipe = load_recipe(RECIPE)
    _say(2, "Pack them into a clip store")
    store = pack(
        PackOptions(
            recipe=recipe,
            data_root=data.root / "rawframes",
            ann_file=data.frame_list("validation"),
            output_dir=_workspace(output_dir).store,
        )
    )
    _say(3, "TSM: checkpoint, ONNX, surgery, parity check, inference, score")
    tsm = _accuracy(recipe, _CHECKPOINTS / "tsm_demo.pth", store, output_dir / "tsm")
    _say(4, "The control, without the shift, with the same stages")
    unshifted = load_recipe(RECIPE, ["network.shift=false"])
    control = _accuracy(unshifted, _CHECKPOINTS / "tsm_demo_control.pth", store, output_dir / "control")
    _say(5, "Throughput of the TSM")
    speed = tuple(_speed(recipe, batch_size, output_dir / "tsm") for batch_size in BATCHES)
    return DemoResult(tsm, control, speed, time.monotonic() - began)


def _say(step: int, what: str) -> None:
    _log.info(f"\n[{step}/5] {what}")


def _workspace(out: Path, batch_size: int = 1) -> Workspace:
    return Workspace(recipe=RECIPE, batch_size=batch_size, out=out)


def _build(recipe: Recipe, checkpoint: Path, batch_size: int, folder: Path) -> Path:
    names = _workspace(folder, batch_size)
    naive, final = folder / names.exported.name, folder / names.optimized.name
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=str(checkpoint), output=naive, batch_size=batch_size))
    modify_onnx(ModifyOnnxOptions(model=naive, output=final, batch_size=batch_size, target="cpu"))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=str(checkpoint), model=(naive, final)))
    _log.info(render(parities))
    if not all(parity.passed for parity in parities):
        raise CheckFailedError(
            f"{final} and {checkpoint} give different results; see the lines marked FAILED."
        )
    return final


def _accuracy(recipe: Recipe, checkpoint: Path, store: ClipStore, folder: Path) -> Metrics:
    workspace = _workspace(folder)
    options = InferOptions(
        model=_build(recipe, checkpoint, 1, folder),
        input=str(store.folder / "clips"),
        output=workspace.results,
        output_dirname=workspace.result_name,
        outfmt="NPY",
    )
    infer(options, say=_log.info)
    return score(ScoreOptions(result_path=workspace.summary)).metrics


def _speed(recipe: Recipe, batch_size: int, folder: Path) -> InferenceResult:
    model = _build(recipe, _CHECKPOINTS / "tsm_demo.pth", batch_size, folder)
    return infer(InferOptions(model=model, loop=LOOP, warmup_count=5), say=lambda _: None)


def table(result: DemoResult, output_dir: Path) -> str:
    """Return the demo's table."""
    lines = [
        f"{'network':<22}{'top-1':>8}   {'95 % interval':<18}{'n':>5}",
        *(
            f"{name:<22}{share.value:>8.4f}   {share.low:.4f} .. {share.high:.4f}  {share.n:>5}"
            for name, share in (("TSM", result.tsm.top1), ("control, no shift", result.control.top1))
        ),
        "",
        f"{'batch size':<22}{'fps':>8}   (clips/s, ONNX Runtime on this CPU, compute only)",
        *(f"{speed.batch_size:<22}{speed.throughput:>8.1f}" for speed in result.speed),
        "",
        "data",
        f"  videos, frames, lists   {output_dir / 'data'}",
        f"  clip store              {_workspace(output_dir).store}",
        f"  models, results, scores {output_dir / 'tsm'}, {output_dir / 'control'}",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo and print its table; raise CheckFailedError when the TSM's accuracy is below the target."""
    options = read_options(DemoOptions, argv, prog="python -m demo")
    with locked_folder(options.output_dir):
        result = demo(options)
    _log.info(f"\nDone in {result.seconds:.0f} s.\n")
    print(table(result, options.output_dir))
    if result.tsm.top1.value < REQUIRED_TOP1:
        raise CheckFailedError(
            f"The TSM reached top-1 {result.tsm.top1.value:.4f}, less than the {REQUIRED_TOP1} of its checkpoint. A "
            "stage of the pipeline gives different inputs or results on this machine."
        )


if __name__ == "__main__":
    run(main)
