"""The whole pipeline on generated videos: `python -m demo`, which is what `make demo` runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.dataset import draw_frames
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.to_onnx import ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, verify
from infer.batches.performance import InferenceResult
from infer.inference import InferOptions, infer
from postprocess.metrics import Metrics
from postprocess.score import ScoreOptions, score
from preprocess.pack import PackOptions, pack
from vidom.command import Parser, run
from vidom.errors import CheckFailedError
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import Recipe, load_recipe
from vidom.parity import render

__all__ = ["DemoResult", "demo", "main"]

_log = logging.getLogger(__name__)

BATCHES = (1, 4, 8)
LOOP = 50
WANTED_TOP1 = 0.95
_CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured: both networks' accuracy, and the TSM's speed at each batch size."""

    tsm: Metrics
    control: Metrics
    speed: tuple[InferenceResult, ...]
    seconds: float


def demo(*, output_dir: Path) -> DemoResult:
    """Return the accuracies and speeds; data, clip store, models and results of the run are in `output_dir`.

    The TSM and its control, the same network without the temporal shift, see the same generated videos.
    What an earlier run left there is used again. Raises CheckFailedError when a stage loses parity.
    """
    began = time.monotonic()
    _say(1, "Draw videos and extract their frames")
    data = draw_frames(output_dir / "data")
    recipe = load_recipe("tsm_demo")
    _say(2, "Pack them into a clip store")
    store = pack(
        PackOptions(
            recipe=recipe,
            data_root=data.root / "rawframes",
            ann_file=data.frame_list("validation"),
            output_dir=output_dir / "store",
        )
    )
    _say(3, "TSM: checkpoint, ONNX, surgery, proof, inference, score")
    tsm = _accuracy(recipe, _CHECKPOINTS / "tsm_demo.pth", store, output_dir / "tsm")
    _say(4, "The control, without the shift, through the same stages")
    unshifted = load_recipe("tsm_demo", ["network.shift=false"])
    control = _accuracy(unshifted, _CHECKPOINTS / "tsn_demo.pth", store, output_dir / "control")
    _say(5, "Throughput of the TSM")
    speed = tuple(_speed(recipe, batch_size, output_dir / "tsm") for batch_size in BATCHES)
    return DemoResult(tsm, control, speed, time.monotonic() - began)


def _say(step: int, what: str) -> None:
    _log.info(f"\n[{step}/5] {what}")


def _build(recipe: Recipe, checkpoint: Path, batch_size: int, folder: Path) -> Path:
    naive = folder / f"bs{batch_size}.onnx"
    final = folder / f"new_bs{batch_size}.onnx"
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=str(checkpoint), output=naive, batch_size=batch_size))
    modify_onnx(ModifyOnnxOptions(model=naive, output=final, batch_size=batch_size, target="cpu"))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=str(checkpoint), model=(naive, final)))
    _log.info(render(parities))
    if not all(parity.passed for parity in parities):
        raise CheckFailedError(
            f"{final} does not compute what {checkpoint} computes; see the lines marked FAILED."
        )
    return final


def _accuracy(recipe: Recipe, checkpoint: Path, store: ClipStore, folder: Path) -> Metrics:
    model = _build(recipe, checkpoint, 1, folder)
    options = InferOptions(
        model=model,
        input=str(store.folder / "clips"),
        output=folder,
        output_dirname="result",
        outfmt="NPY",
    )
    infer(options, say=_log.info)
    return score(ScoreOptions(result_path=folder / "result")).metrics


def _speed(recipe: Recipe, batch_size: int, folder: Path) -> InferenceResult:
    model = _build(recipe, _CHECKPOINTS / "tsm_demo.pth", batch_size, folder)
    return infer(InferOptions(model=model, loop=LOOP, warmup_count=5), say=lambda _: None)


def table(result: DemoResult, output_dir: Path) -> str:
    """Return the demo's one table."""
    lines = [
        f"{'network':<22}{'top-1':>8}   {'95 % interval':<18}{'n':>5}",
        *(
            f"{name:<22}{share.value:>8.4f}   {share.low:.4f} .. {share.high:.4f}  {share.n:>5}"
            for name, share in (("TSM", result.tsm.top1), ("control, no shift", result.control.top1))
        ),
        "",
        f"{'batch size':<22}{'fps':>8}   (clips a second, ONNX Runtime on this CPU, compute alone)",
        *(f"{speed.batch_size:<22}{speed.throughput:>8.1f}" for speed in result.speed),
        "",
        "data",
        f"  videos, frames, lists   {output_dir / 'data'}",
        f"  clip store              {output_dir / 'store'}",
        f"  models, results, scores {output_dir / 'tsm'}, {output_dir / 'control'}",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo, print its table; raise CheckFailedError when the TSM is worse than it was published."""
    parser = Parser(
        description="Take a small TSM and its control through the whole pipeline on generated videos."
    )
    parser.add_argument(
        "--output_dir", type=Path, default=Path("run/tsm_demo"), help="where everything is written"
    )
    options = parser.parse_args(argv)
    result = demo(output_dir=options.output_dir)
    _log.info(f"\nDone in {result.seconds:.0f} s.\n")
    print(table(result, options.output_dir))
    if result.tsm.top1.value < WANTED_TOP1:
        raise CheckFailedError(
            f"The TSM reached top-1 {result.tsm.top1.value:.4f}, less than the {WANTED_TOP1} of its checkpoint. Some "
            "stage of the pipeline changed what the network sees or computes on this machine."
        )


if __name__ == "__main__":
    run(main)
