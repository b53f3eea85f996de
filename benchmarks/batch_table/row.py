"""One row of the batch table: a model built for one batch size, its accuracy on the store and its speed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.build_record import code_digest
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.pass_types import Target
from export.to_onnx import ToOnnxOptions, to_onnx
from infer.batches.performance import InferenceResult
from infer.engines.engine_options import EngineOptions, OpenVinoOptions
from infer.inference import InferOptions, infer
from networks.deployable import InputDtype
from postprocess.metrics import Proportion
from postprocess.score import ScoreOptions, score
from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, CheckFailedError
from vidom.files import sha256_file, write_json
from vidom.formats.recipe import Recipe
from vidom.parity import render
from vidom.system.machine import look_at_machine
from vidom.system.onnx_runtime import onnxruntime
from vidom.system.requirements import installed_version

__all__ = ["Row", "Settings", "measured_row"]

_log = logging.getLogger(__name__)

ROWS = "rows.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of all rows of a table; `store` is the clip store's folder, None for speed only."""

    recipe: Recipe
    checkpoint: str
    ignore_meta: bool
    input_dtype: InputDtype
    store: Path | None
    engine: EngineOptions
    soc_version: str | None
    loop: int
    output_dir: Path

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's tensor."""
        return int(np.prod(self.recipe.views.sample_shape)) * (4 if self.input_dtype == "float32" else 1)

    @property
    def precision(self) -> str | None:
        """The arithmetic of OpenVINO, None for the other engines."""
        return self.engine.precision if isinstance(self.engine, OpenVinoOptions) else None


@dataclass(frozen=True)
class Row:
    """The measurements for one batch size.

    `top1` and `top5` are (accuracy, low, high) with the 95 % Wilson interval of `n` samples. `fps` is the samples/s
    of execution alone, `samples_per_second` that from the first byte read to the last output written. Fields that
    need a clip store are None without one. `flips` are the top-1 changes of a run in bf16 and the number of rows
    compared with float32: rows of the store or, without one, of random bytes.
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


def measured_row(settings: Settings, batch_size: int) -> Row:
    """Measure the row, add it to `rows.json` and return it; a row of an earlier run with equal settings is reused.

    Equal settings: exported model, engine, device, store, loop and code. Raises CheckFailedError when surgery changes
    the results of the model, and what the stages raise.
    """
    folder = settings.output_dir / f"bs{batch_size}"
    naive = to_onnx(
        ToOnnxOptions(
            recipe=settings.recipe,
            checkpoint=settings.checkpoint,
            ignore_meta=settings.ignore_meta,
            output=folder / f"{settings.recipe.name}_bs{batch_size}.onnx",
            batch_size=batch_size,
            input_dtype=settings.input_dtype,
        )
    )
    key = _key(settings, naive)
    rows = _read_rows(settings.output_dir)
    if key in rows:
        _log.info(f"batch {batch_size}: measured before, read from {settings.output_dir / ROWS}")
        return rows[key]
    row = _measure(settings, batch_size, _built(settings, naive, batch_size))
    write_json(settings.output_dir / ROWS, {name: asdict(one) for name, one in {**rows, key: row}.items()})
    return row


def _key(settings: Settings, naive: Path) -> str:
    facts: Mapping[str, Any] = {
        "model": sha256_file(naive),
        "code": code_digest(),
        "engine": [settings.engine.name, repr(settings.engine), settings.soc_version],
        "onnxruntime": onnxruntime.__version__,
        "openvino": installed_version("openvino"),
        "threads": look_at_machine(settings.output_dir).cores_usable,
        "store": sha256_file(settings.store / "manifest.json") if settings.store else None,
        "loop": settings.loop,
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
            f"{path} does not contain rows of a batch table ({error}). Delete it to measure all rows again."
        ) from None


def _row(**entry: Any) -> Row:
    """Return the row of a JSON entry, its lists as tuples."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Row(**values)


def _built(settings: Settings, naive: Path, batch_size: int) -> Path:
    final = naive.with_name(f"{settings.recipe.name}_new_bs{batch_size}.onnx")
    target: Target = "ascend310p" if settings.engine.on_npu else "cpu"
    done = modify_onnx(ModifyOnnxOptions(model=naive, output=final, batch_size=batch_size, target=target))
    if not done.passed:
        raise CheckFailedError(
            f"Surgery changed the results of {naive}, so nothing was measured:\n{render(done.parities)}"
        )
    if settings.engine.name != "ascend":
        return final
    # Needed only if ATC compiles.
    from export.to_om import ToOmOptions, to_om

    return to_om(
        ToOmOptions(
            model=final,
            output=final.with_suffix(".om"),
            batch_size=batch_size,
            soc_version=settings.soc_version,
        )
    )


def _measure(settings: Settings, batch_size: int, model: Path) -> Row:
    n, top1, top5, on_store = None, None, None, None
    if settings.store is not None:
        on_store = _infer(
            settings,
            model,
            input=str(settings.store / "clips"),
            output=str(model.parent / "result"),
            output_dirname=settings.engine.name,
            outfmt="NPY",
        )
        metrics = score(ScoreOptions(result_path=model.parent / "result" / settings.engine.name)).metrics
        n, top1, top5 = metrics.n, _shares(metrics.top1), _shares(metrics.top5)
    pure = _infer(
        settings,
        model,
        loop=settings.loop,
        pure_data_type="random" if settings.precision == "bf16" else "zero",
    )
    check = (on_store or pure).precision_check
    return Row(
        batch_size=batch_size,
        chip=_chip(pure),
        engine=" ".join(filter(None, (pure.engine, pure.engine_version, settings.precision))),
        dataset=settings.recipe.dataset.name,
        n=n,
        top1=top1,
        top5=top5,
        fps=pure.throughput,
        samples_per_second=on_store.samples_per_second if on_store else None,
        padded_rows=on_store.padded_rows if on_store else None,
        flips=(check.top1_flips, check.rows) if check else None,
    )


def _infer(settings: Settings, model: Path, **options: Any) -> InferenceResult:
    return infer(InferOptions(model=model, engine=settings.engine, **options), say=_log.info)


def _shares(proportion: Proportion) -> tuple[float, ...]:
    return (proportion.value, proportion.low, proportion.high)


def _chip(result: InferenceResult) -> str:
    if not result.device.startswith("CPU "):
        return result.device
    machine = look_at_machine(Path.cwd())
    return f"{machine.processor}, {machine.cores_usable} cores"
