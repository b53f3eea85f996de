"""Prove that every stage of a build computes the same: torch, the exported ONNX, the ONNX after surgery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from export.build_record import read_record, write_record
from export.deployable import Deployable, InputDtype
from export.surgery.model_file import model_bytes
from export.surgery.run import run_passes
from export.to_onnx import add_model_options, add_per_view, build_deployable, recipe_of
from export.verification.parity import Parity, Tolerance, compare, render
from vidom.command import Parser, run
from vidom.errors import BadDataError, CheckFailedError
from vidom.files import sha256_file
from vidom.formats.aipp import read_aipp
from vidom.formats.recipe import Recipe

__all__ = ["main", "verify"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Run = Callable[[Array], tuple[Array, Array]]
# One batch of this many input bytes needs some ten times as much memory in activations.
LARGEST_BATCH_BYTES = 640_000_000
DISTINCT_SAMPLES = 2


@dataclass(frozen=True)
class _Truth:
    """The distinct inputs, and torch's logits (averaged over clips as the head does) and rows for each."""

    samples: Array
    logits: Array
    rows: Array


def verify(
    *,
    recipe: Recipe,
    checkpoint: str,
    models: Sequence[Path],
    input_dtype: InputDtype = "float32",
    tolerance: Tolerance | None = None,
) -> tuple[Parity, ...]:
    """Return the agreement of each ONNX model with torch on two inputs, at several batch sizes.

    Every model is run at its own batch and, made for other batches from what it was made of, at 1 and 2, but for
    batches that would need too much memory. Logits are compared as well as rows, because probabilities near
    1/classes hide errors. The results stand in `build.json`. Models of single views take
    `recipe.one_view()`. A model for AIPP is compared with the network of float32 samples: what AIPP itself does to
    pixels can not be run here.

    Raises CheckFailedError when an input makes no difference to the logits, a dead network's mark.
    """
    tolerance = tolerance or Tolerance()
    fed: InputDtype = "uint8" if input_dtype == "uint8" else "float32"
    deployable, _ = build_deployable(recipe, checkpoint, input_dtype=fed)
    truth = _truth(deployable, recipe, fed)
    parities: list[Parity] = []
    for model in models:
        found = [
            _compare_at(batch_size, runner, truth, model.name, tolerance)
            for batch_size, runner in _runners(model, recipe)
        ]
        entry = read_record(model)
        write_record(
            model, entry.get("made_from", {}), **_kept(entry), parity=[asdict(parity) for parity in found]
        )
        parities += found
    return tuple(parities)


def _kept(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in entry.items() if key not in ("sha256", "made_from", "tools", "parity")
    }


def _truth(deployable: Deployable, recipe: Recipe, input_dtype: InputDtype) -> _Truth:
    generator = np.random.default_rng(0)
    shape = recipe.input_shape(1)
    samples, logits, rows = [], [], []
    for _ in range(DISTINCT_SAMPLES):
        noise = generator.standard_normal(shape, dtype=np.float32)
        sample = noise if input_dtype == "float32" else generator.integers(0, 256, shape, dtype=np.uint8)
        with torch.no_grad():
            clip_logits = deployable.clip_logits(torch.from_numpy(sample))
            rows.append(deployable.average(clip_logits).numpy())
        samples.append(sample)
        logits.append(clip_logits.numpy().mean(axis=0, keepdims=True))
    truth = _Truth(np.concatenate(samples), np.concatenate(logits), np.concatenate(rows))
    spread = float(np.abs(truth.logits[0] - truth.logits[1]).max())
    if not spread > 1e-3 * float(np.abs(truth.logits).max()):
        raise CheckFailedError(
            f"The network of {recipe.name} gives the same logits for two different inputs (largest difference "
            f"{spread:.1e}). Its checkpoint is dead or was read wrongly; agreement would prove nothing."
        )
    return truth


def _compare_at(batch_size: int, runner: Run, truth: _Truth, stage: str, tolerance: Tolerance) -> Parity:
    # Both orders are fed where the batch leaves a choice, so that every row has held every input.
    order = np.arange(max(batch_size, DISTINCT_SAMPLES)) % DISTINCT_SAMPLES
    logits, rows = zip(
        *(runner(truth.samples[order[at : at + batch_size]]) for at in range(0, len(order), batch_size)),
        strict=True,
    )
    return compare(
        f"torch = {stage}",
        batch_size=batch_size,
        logits=(truth.logits[order], np.concatenate(logits)),
        rows=(truth.rows[order], np.concatenate(rows)),
        tolerance=tolerance,
    )


def _runners(path: Path, recipe: Recipe) -> Iterator[tuple[int, Run]]:
    """Yield (batch size, runner), each made when its turn comes, so that only one holds its activations."""
    model = _load(path, recipe)
    own = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value // (_pictures(model, path) or 1)
    sizes = sorted({1, 2, own} - {0})
    if own and _is_operated(path) and _origin(path) is None:
        _log.info(f"{path.name} is verified at batch {own} alone: what it was made of is not beside it.")
        sizes = [own]
    sample_bytes = 4 * int(np.prod(recipe.input_shape(1)))
    fitting = [size for size in sizes if size == 1 or size * sample_bytes <= LARGEST_BATCH_BYTES]
    if left_out := sorted(set(sizes) - set(fitting)):
        _log.info(
            f"{path.name} is verified at batch {' and '.join(map(str, fitting))}; batch "
            f"{' and '.join(map(str, left_out))} would need too much memory here."
        )
    for size in fitting:
        yield size, _runner(model if size == own else _at_batch(path, size), recipe)


def _is_operated(path: Path) -> bool:
    return "passes" in read_record(path).get("made_from", {})


def _origin(path: Path) -> Path | None:
    """Return the exported model that vidom's passes alone made the model of, None unless it lies there unchanged."""
    made_from = read_record(path).get("made_from", {})
    exported = path.with_name(str(made_from.get("model")))
    if made_from.get("auto_optimizer") is not None or not exported.is_file():
        return None
    return exported if sha256_file(exported) == made_from.get("model_sha256") else None


def _at_batch(path: Path, batch_size: int) -> onnx.ModelProto:
    """Return the model with another batch; what surgery made of an exported model is made of it again."""
    origin = _origin(path)
    if origin is None:
        surgery = run_passes(path, passes=("set-batch",), batch_size=batch_size, average_clips="keep")
    else:
        made_from = read_record(path)["made_from"]
        options = {key: made_from[key] for key in ("passes", "average_clips", "target")}
        surgery = run_passes(origin, batch_size=batch_size, **options)
    return onnx.load_model_from_string(model_bytes(surgery.model))


def _load(path: Path, recipe: Recipe) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except (DecodeError, OSError) as error:
        raise BadDataError(f"{path} is not an ONNX model ({error}). Export it again.") from None
    found = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)[1:]
    if pictures := _pictures(model, path):
        found = (pictures, *found)
    if found != recipe.views.sample_shape:
        raise BadDataError(
            f"{path} takes samples of shape {found}, but the recipe {recipe.name} makes {recipe.views.sample_shape} "
            f"({recipe.views.arithmetic}). Export it from this recipe."
        )
    return model


def _pictures(model: onnx.ModelProto, path: Path) -> int | None:
    """Return how many pictures a sample is in a model for AIPP, None in any other."""
    aipp = read_aipp({entry.key: entry.value for entry in model.metadata_props}, origin=path)
    return aipp.frames_per_sample if aipp else None


def _runner(model: onnx.ModelProto, recipe: Recipe) -> Run:
    """Return a function from samples to (mean logits of each sample, rows)."""
    softmax = next((node for node in model.graph.node if node.op_type == "Softmax"), None)
    logits_name = softmax.input[0] if softmax else model.graph.output[0].name
    if softmax:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        exposed.graph.output.append(onnx.helper.make_empty_tensor_value_info(logits_name))
        model = exposed
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows_name, entry = session.get_outputs()[0].name, session.get_inputs()[0]

    def call(samples: Array) -> tuple[Array, Array]:
        # The frames of a model for AIPP lie in a row; any other takes samples as they are.
        fed = samples.reshape(-1, *samples.shape[1 - len(entry.shape) :])
        rows, logits = session.run([rows_name, logits_name], {entry.name: fed})
        return logits.reshape(len(samples), -1, recipe.dataset.num_classes).mean(axis=1), rows

    return call


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, print the table and, as last line, PASSED or FAILED."""
    parser = Parser(description="Compare torch, the exported ONNX model and the one after surgery.")
    add_model_options(parser)
    add_per_view(parser)
    parser.add_argument(
        "--model", type=Path, nargs="+", required=True, help="ONNX models built from that checkpoint"
    )
    options = parser.parse_args(argv)
    parities = verify(
        recipe=recipe_of(options, per_view=options.per_view),
        checkpoint=options.checkpoint,
        models=options.model,
        input_dtype=options.input_dtype,
    )
    print(render(parities))
    passed = all(parity.passed for parity in parities)
    print("PASSED" if passed else "FAILED", flush=True)
    if not passed:
        raise CheckFailedError(
            "A stage does not compute what the checkpoint's network computes; see the lines marked FAILED. "
            "Do not deploy this model."
        )


if __name__ == "__main__":
    run(main)
