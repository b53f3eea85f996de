"""Check the parity of every stage of a build: torch, the exported ONNX model, the ONNX model after surgery."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vidom  # noqa: F401 - before torch, whose environment it sets

# isort: split
import numpy as np
import onnx_ir as ir
import torch

from export.build_record import read_record, write_record
from export.model_options import ModelOptions
from export.surgery.input_sizes import set_input_sizes
from export.surgery.model_file import load_model
from export.surgery.pass_manager import run_passes
from export.surgery.values import batch_of
from export.verification.equivalence import compare_outputs
from export.verification.probe import Probe, StageOutput, random_samples
from networks.deployable import InputDtype, build_deployable
from vidom.command import run
from vidom.errors import BadDataError, CheckFailedError
from vidom.files import sha256_file
from vidom.folder_lock import locked_folder
from vidom.formats.recipe import Recipe
from vidom.options import option, read_options
from vidom.parity import Parity, Tolerance, render

__all__ = ["VerifyOptions", "check_passed", "main", "verify"]

_log = logging.getLogger(__name__)

# One batch of this many input bytes needs some ten times as much memory in activations.
LARGEST_BATCH_BYTES = 640_000_000
# With two, a batch of odd size would be the same backwards.
DISTINCT_SAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(ModelOptions):
    """Compare torch, the exported ONNX model and the one after surgery."""

    model: tuple[Path, ...] = option("ONNX models built from that checkpoint")


@dataclass(frozen=True)
class _Reference:
    """The distinct samples, and torch's rows and logits of each clip for each of them."""

    samples: np.ndarray[Any, Any]
    output: StageOutput


def verify(options: VerifyOptions) -> tuple[Parity, ...]:
    """Return the agreement of each ONNX model with torch on up to three random samples, at several batch sizes.

    Every model runs at its own batch size and, rebuilt from its source model, at 1 and 2, except for batches that need
    too much memory. Logits are compared as well as rows, because probabilities near 1/classes hide errors. The
    tolerance is that of the model's number format. The results are written to `build.json`. A model for AIPP is
    compared with the network of float32 samples: what AIPP itself does to pixels cannot be run here.

    Raises CheckFailedError when the outputs of torch do not depend on the input, BadDataError for a model that does
    not fit the recipe or cannot be run.
    """
    reference = _reference(options)
    parities: list[Parity] = []
    for path in options.model:
        measured = [_compared(path.name, model, reference) for model in _at_batch_sizes(path, options)]
        entry = read_record(path)
        kept = {
            key: value
            for key, value in entry.items()
            if key not in ("sha256", "made_from", "tools", "parity")
        }
        results = [parity.facts for parity in measured]
        write_record(path, entry.get("made_from", {}), **kept, parity=results)
        parities += measured
    return tuple(parities)


def _reference(options: VerifyOptions) -> _Reference:
    recipe = options.recipe
    fed: InputDtype = "uint8" if options.input_dtype == "uint8" else "float32"
    deployable, _ = build_deployable(
        recipe, options.checkpoint, input_dtype=fed, ignore_meta=options.ignore_meta
    )
    samples = random_samples(DISTINCT_SAMPLES, recipe.views.sample_shape, np.dtype(fed))
    logits, rows = [], []
    for sample in samples:
        with torch.no_grad():
            clip_logits = deployable.clip_logits(torch.from_numpy(sample[None]))
            rows.append(deployable.average(clip_logits).numpy())
        logits.append(clip_logits.numpy())
    output = StageOutput(np.stack(rows).astype(np.float64), np.stack(logits).astype(np.float64))
    _check_alive(output, recipe)
    return _Reference(samples, output)


def _check_alive(output: StageOutput, recipe: Recipe) -> None:
    logits = output.rows if output.logits is None else output.logits
    means = logits.mean(axis=1)
    spread = float(np.abs(means[0] - means[1]).max())
    if not spread > 1e-3 * float(np.abs(means).max()):
        raise CheckFailedError(
            f"The network of {recipe.name} gives the same logits for two different inputs (largest difference "
            f"{spread:.1e}): its outputs do not depend on the input. The checkpoint is probably corrupt."
        )


def _compared(name: str, model: ir.Model, reference: _Reference) -> Parity:
    probe = Probe.of(model)
    if probe.dtype.kind != reference.samples.dtype.kind:
        raise BadDataError(
            f"{name} takes {probe.dtype} samples, but --input_dtype asks for {reference.samples.dtype}. Repeat the "
            "--input_dtype of the export."
        )
    # Distinct samples alternate, so that rows which are swapped inside a batch differ.
    order = np.arange(max(probe.batch, 2)) % DISTINCT_SAMPLES
    return compare_outputs(
        f"torch = {name}{probe.remark}",
        reference.output.at(order),
        probe.run(reference.samples, order)[probe.outputs[0]],
        batch_size=probe.batch,
        tolerance=Tolerance.of(probe.number_format),
        samples=min(len(order), DISTINCT_SAMPLES),
    )


def _at_batch_sizes(path: Path, options: VerifyOptions) -> Iterator[ir.Model]:
    """Yield the model at each batch size to verify, one at a time, so that only one holds its activations."""
    recipe, model = options.recipe, load_model(path)
    _check_samples(model, path, recipe)
    own = batch_of(model)
    sizes = sorted({1, 2, own or 1})
    if own and _is_modified(path) and _source(path) is None:
        _log.info(
            f"{path.name} is verified at batch size {own} only: its source model was not found next to it."
        )
        sizes = [own]
    sample_bytes = 4 * int(np.prod(recipe.input_shape(1)))
    fitting = [size for size in sizes if size == 1 or size * sample_bytes <= LARGEST_BATCH_BYTES]
    if left_out := sorted(set(sizes) - set(fitting)):
        _log.info(
            f"{path.name} is verified at batch size {' and '.join(map(str, fitting))}; batch size "
            f"{' and '.join(map(str, left_out))} would need too much memory."
        )
    for size in fitting:
        yield model if size == own else _at_batch(path, size)


def _check_samples(model: ir.Model, path: Path, recipe: Recipe) -> None:
    shape = Probe.of(model).sample_shape
    if shape != recipe.views.sample_shape:
        raise BadDataError(
            f"{path} takes samples of shape {shape}, but the recipe {recipe.name} makes {recipe.views.sample_shape} "
            f"({recipe.views.arithmetic}). Export it from this recipe."
        )


def _is_modified(path: Path) -> bool:
    return "passes" in read_record(path).get("made_from", {})


def _source(path: Path) -> Path | None:
    """Return the exported model from which vidom's passes alone made the model, None unless it is there, unchanged."""
    made_from = read_record(path).get("made_from", {})
    exported = path.with_name(str(made_from.get("model")))
    if made_from.get("auto_optimizer") is not None or not exported.is_file():
        return None
    return exported if sha256_file(exported) == made_from.get("model_sha256") else None


def _at_batch(path: Path, batch_size: int) -> ir.Model:
    """Return the model at a different batch size; the result of surgery is made again from its source model."""
    source = _source(path)
    if source is None:
        return run_passes(path, passes=("set-batch",), batch_size=batch_size, average_clips="keep").model
    made_from = read_record(path)["made_from"]
    options = {key: made_from[key] for key in ("passes", "average_clips", "target")}
    exported = load_model(source)
    set_input_sizes(exported, made_from.get("input_shape", ()))
    return run_passes(exported, batch_size=batch_size, **options).model


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, print the table and, as last line, PASSED or FAILED."""
    options = read_options(VerifyOptions, argv, prog="verify.py")
    with ExitStack() as locks:
        for folder in {path.parent for path in options.model}:
            locks.enter_context(locked_folder(folder))
        parities = verify(options)
    print(render(parities))
    check_passed(parities)


def check_passed(parities: Sequence[Parity]) -> None:
    """Print PASSED or FAILED; raise CheckFailedError unless every comparison is within its tolerance."""
    passed = all(parity.passed for parity in parities)
    print("PASSED" if passed else "FAILED", flush=True)
    if not passed:
        raise CheckFailedError(
            "A stage does not compute what the checkpoint's network computes; see the lines marked FAILED. "
            "Do not deploy this model."
        )


if __name__ == "__main__":
    run(main)
