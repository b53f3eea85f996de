"""One line of the batch table: a model built for one batch size, its accuracy on the store and its speed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from export.build_record import code_digest
from export.deployable import InputDtype
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.pass_types import Target
from export.to_onnx import ToOnnxOptions, to_onnx
from infer.batches.performance import InferenceResult
from infer.engines.options import EngineOptions, OpenVinoOptions
from infer.inference import InferOptions, infer
from postprocess.metrics import Proportion
from postprocess.score import ScoreOptions, score
from vidom.errors import BadDataError, CheckFailedError
from vidom.files import read_json, sha256_file, write_json
from vidom.formats.recipe import Recipe
from vidom.parity import render
from vidom.system.machine import look_at_machine
from vidom.system.requirements import installed_version

__all__ = ["Order", "Row", "measured_row"]

_log = logging.getLogger(__name__)

ROWS = "rows.json"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What all rows of a table have in common; `store` is the clip store's folder, None for speed alone."""

    recipe: Recipe
    checkpoint: str
    input_dtype: InputDtype
    store: Path | None
    engine: EngineOptions
    soc_version: str | None
    loop: int
    output_dir: Path

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's tensor, which must be read for each."""
        return int(np.prod(self.recipe.views.sample_shape)) * (4 if self.input_dtype == "float32" else 1)

    @property
    def precision(self) -> str | None:
        """The arithmetic of OpenVINO, None for the other engines."""
        return self.engine.precision if isinstance(self.engine, OpenVinoOptions) else None


@dataclass(frozen=True)
class Row:
    """What was measured for one batch size.

    `top1` and `top5` are (accuracy, low, high) with the 95 % Wilson interval of `n` samples. `fps` is samples a second
    of execution alone, `samples_per_second` that from the first byte read to the last output written. What needs a
    clip store is None without one. `flips` are the top-1 flips of a run in bf16 and how many rows were computed in
    float32 too to find them: rows of the store or, without one, of random bytes.
    """

    batch_size: int
    chip: str
    engine: str
    dataset: str
    n: int | None
    top1: tuple[float, ...] | None
    top5: tuple[float, ...] | None
    fps: float
    samples_per_second: float | None
    padded_rows: int | None
    flips: tuple[int, ...] | None = None


def measured_row(order: Order, batch_size: int) -> Row:
    """Return the row, which is on disk in `rows.json` now; one that an earlier run measured of the same is taken again.

    The same are the exported model, engine, device, store, loop and code. Raises CheckFailedError when surgery changes
    what the model computes, and what the stages raise.
    """
    folder = order.output_dir / f"bs{batch_size}"
    naive = to_onnx(
        ToOnnxOptions(
            recipe=order.recipe,
            checkpoint=order.checkpoint,
            output=folder / f"{order.recipe.name}_bs{batch_size}.onnx",
            batch_size=batch_size,
            input_dtype=order.input_dtype,
        )
    )
    key = _key(order, naive)
    rows = _read_rows(order.output_dir)
    if key in rows:
        _log.info(f"batch {batch_size}: measured before, taken from {order.output_dir / ROWS}")
        return rows[key]
    row = _measure(order, batch_size, _built(order, naive, batch_size))
    write_json(order.output_dir / ROWS, {name: asdict(one) for name, one in {**rows, key: row}.items()})
    return row


def _key(order: Order, naive: Path) -> str:
    facts: Mapping[str, Any] = {
        "model": sha256_file(naive),
        "code": code_digest(),
        "engine": [order.engine.name, repr(order.engine), order.soc_version],
        "onnxruntime": onnxruntime.__version__,
        "openvino": installed_version("openvino"),
        "threads": look_at_machine(order.output_dir).cores_usable,
        "store": sha256_file(order.store / "manifest.json") if order.store else None,
        "loop": order.loop,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read_rows(folder: Path) -> dict[str, Row]:
    path = folder / ROWS
    if not path.is_file():
        return {}
    try:
        return {key: _row(**entry) for key, entry in read_json(path, what="table's rows").items()}
    except (TypeError, AttributeError) as error:
        raise BadDataError(
            f"{path} does not hold rows of a batch table ({error}). Delete it; all is measured anew."
        ) from None


def _row(**entry: Any) -> Row:
    """Return the row that JSON gave back, its lists as tuples."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Row(**values)


def _built(order: Order, naive: Path, batch_size: int) -> Path:
    final = naive.with_name(f"{order.recipe.name}_new_bs{batch_size}.onnx")
    target: Target = "ascend310p" if order.engine.name == "ascend" else "cpu"
    done = modify_onnx(ModifyOnnxOptions(model=naive, output=final, batch_size=batch_size, target=target))
    if not done.passed:
        raise CheckFailedError(
            f"Surgery changed what {naive} computes, so nothing was measured:\n{render(done.parities)}"
        )
    if order.engine.name != "ascend":
        return final
    # Only where ATC compiles is this part of export needed.
    from export.to_om import ToOmOptions, to_om

    return to_om(
        ToOmOptions(
            model=final,
            output=final.with_suffix(".om"),
            batch_size=batch_size,
            soc_version=order.soc_version,
        )
    )


def _measure(order: Order, batch_size: int, model: Path) -> Row:
    n, top1, top5, on_store = None, None, None, None
    if order.store is not None:
        on_store = _infer(
            order,
            model,
            input=str(order.store / "clips"),
            output=str(model.parent / "result"),
            output_dirname=order.engine.name,
            outfmt="NPY",
        )
        metrics = score(ScoreOptions(result_path=model.parent / "result" / order.engine.name)).metrics
        n, top1, top5 = metrics.n, _shares(metrics.top1), _shares(metrics.top5)
    pure = _infer(
        order, model, loop=order.loop, pure_data_type="random" if order.precision == "bf16" else "zero"
    )
    check = (on_store or pure).precision_check
    return Row(
        batch_size=batch_size,
        chip=_chip(pure),
        engine=" ".join(filter(None, (pure.engine, pure.engine_version, order.precision))),
        dataset=order.recipe.dataset.name,
        n=n,
        top1=top1,
        top5=top5,
        fps=pure.throughput,
        samples_per_second=on_store.samples_per_second if on_store else None,
        padded_rows=on_store.padded_rows if on_store else None,
        flips=(check.top1_flips, check.rows) if check else None,
    )


def _infer(order: Order, model: Path, **options: Any) -> InferenceResult:
    return infer(InferOptions(model=model, engine=order.engine, **options), say=_log.info)


def _shares(proportion: Proportion) -> tuple[float, ...]:
    return (proportion.value, proportion.low, proportion.high)


def _chip(result: InferenceResult) -> str:
    if not result.device.startswith("CPU "):
        return result.device
    machine = look_at_machine(Path.cwd())
    return f"{machine.processor}, {machine.cores_usable} cores"
