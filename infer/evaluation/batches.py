"""Rows by an engine that takes arrays: samples are decoded into batches in memory, nothing is written to disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from infer.engines.base import ArrayEngine
from infer.engines.engine_options import float32_reference
from infer.engines.open import ArrayEngineOptions, open_engine
from infer.engines.tensor_specs import TensorSpec
from infer.evaluation.buffers import FilledBatch, SampleMaker, TensorStream
from infer.evaluation.execution import Block, Computed, Identity, OnBad, Results
from infer.evaluation.plan import Plan, batches_of
from infer.evaluation.record import Row
from preprocess.tensors.pixels import Dtype
from vidom.errors import UsageError
from vidom.files import human_bytes
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.views import ViewPlan

__all__ = ["BatchModel", "BatchSource", "sample_dtype"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSource:
    """An array engine with its options, and what its samples are made from; see `RowSource`.

    `batch_size` is for a model whose batch axis is symbolic, and for each device of torch.
    """

    atomic_blocks: ClassVar[bool] = True

    model: Path
    options: ArrayEngineOptions
    batch_size: int | None
    views: ViewPlan
    naming: FrameNaming
    data_root: Path

    @classmethod
    def of(
        cls,
        plan: Plan,
        *,
        model: Path,
        options: ArrayEngineOptions,
        batch_size: int | None = None,
    ) -> BatchSource:
        """Return the source for the plan's samples."""
        return cls(model, options, batch_size, plan.views, plan.naming, plan.data_root)

    def open(self) -> BatchModel:
        """Return the model loaded in this process, which shares its cores with decoding processes."""
        engine = open_engine(self.model, self.options, batch_size=self.batch_size, shares_cores=True)
        return BatchModel(engine, self)

    def blocks(self, plan: Plan, identity: Identity) -> list[Block]:
        """Return the plan's jobs in batches of the model. Raises UsageError when it does not take the samples."""
        _check_fit(self.model, identity, plan)
        return list(batches_of(plan.jobs, identity.inputs[0].rows))

    def maker(self, dtype: Dtype) -> SampleMaker:
        """Return what makes the samples of this dtype."""
        return SampleMaker(self.views, self.naming, self.data_root, dtype)

    def reference(self) -> BatchSource | None:
        """Return the same model computed in float32, None where the engine already does what the graph says."""
        options = float32_reference(self.options)
        return None if options is None else replace(self, options=options)


class BatchModel:
    """A model loaded into an engine of this process; see `OpenModel`."""

    def __init__(self, engine: ArrayEngine, source: BatchSource) -> None:
        self._engine = engine
        self._source = source
        self.identity = Identity(
            engine=f"{engine.name}, {engine.device}",
            engine_version=engine.version,
            batch_size=engine.inputs[0].rows,
            facts=engine.facts,
            model_sha256=engine.model_sha256,
            inputs=engine.inputs,
            outputs=engine.outputs,
        )

    def computed(self, blocks: Sequence[Block], *, workers: int, folder: Path, on_bad: OnBad) -> Results:
        """Yield the result of each batch, in order, while `workers` processes decode the next ones."""
        (spec,) = self.identity.inputs
        maker = self._source.maker(sample_dtype(spec))
        with TensorStream(maker, spec.by_sample, workers=workers) as stream:
            _log.debug(f"{workers} decoding processes fill {human_bytes(stream.buffer_bytes)} of buffers.")
            for batch in stream.batches(blocks):
                yield self.compute(batch)

    def compute(self, batch: FilledBatch) -> Computed:
        """Return the result of the batch; its padding is left out."""
        bad = [(job, fault) for job, fault in zip(batch.jobs, batch.faults, strict=True) if fault is not None]
        if len(bad) == len(batch.jobs):
            return Computed([], bad, 0)
        started = time.perf_counter()
        outputs = self._engine.run([batch.tensor.reshape(self._engine.inputs[0].shape)])
        scores = np.asarray(outputs[0], np.float32)
        rows = [
            Row(job.index, job.annotation.id, job.annotation.label, row)
            for job, row, fault in zip(batch.jobs, scores, batch.faults, strict=False)
            if fault is None
        ]
        return Computed(rows, bad, time.perf_counter() - started)


def sample_dtype(spec: TensorSpec) -> Dtype:
    """Return the dtype of the samples for a model's input; the engine rounds float32 for an input of float16."""
    return "uint8" if spec.dtype == "uint8" else "float32"


def _check_fit(model: Path, identity: Identity, plan: Plan) -> None:
    """Raise UsageError unless the model takes the plan's samples and gives a row of scores for each."""
    spec, views, recipe = identity.inputs[0], plan.views, plan.recipe_name
    if len(identity.inputs) != 1 or spec.dtype not in ("float16", "float32", "uint8"):
        inputs = ", ".join(f"{spec.name!r}, {spec}" for spec in identity.inputs)
        raise UsageError(
            f"{model} takes {inputs}; evaluation needs one input of float16, float32 or uint8 samples."
        )
    if views.clips > 1 and spec.sample_shape == views.one_view.sample_shape:
        raise UsageError(
            f"{model} takes single views ({spec}), a sample of the recipe {recipe} has {views.clips}. "
            "Export the model without --per_view, or use a clip store: make preprocess infer score VIEWS=one."
        )
    if spec.sample_shape != views.sample_shape:
        raise UsageError(
            f"{model} takes {spec}, but a sample of the recipe {recipe} has the shape {views.sample_shape} "
            f"({views.arithmetic}). Use the model's own recipe, or the --set values it was exported with."
        )
    output, required = identity.outputs[0], len(plan.class_names)
    rows, classes = output.shape if len(output.shape) == 2 else (0, 0)
    if classes not in (-1, required) or rows not in (-1, spec.rows):
        raise UsageError(
            f"{model} gives {output}, but the recipe {recipe} requires {required} scores for each of {spec.rows} "
            "samples. Use the model's own recipe."
        )
