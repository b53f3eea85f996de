"""A graph that can be run and also returns the logits before its final Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.surgery.model_file import model_bytes
from export.surgery.values import batch_of, data_input, rows_per_sample
from export.verification.number_format import number_format
from export.verification.session import TIME_LIMIT, Session
from export.verification.widening import widen_bfloat16
from vidom.errors import BadDataError, UsageError
from vidom.parity import NumberFormat

__all__ = ["Probe", "Rows", "StageOutput", "random_samples"]

Rows = npt.NDArray[np.float64]

# What may be between a Softmax and the output that converts, quantizes or averages its rows.
_AFTER_SOFTMAX = (
    *("Cast", "DequantizeLinear", "Identity", "QuantizeLinear"),
    *("ReduceMean", "Reshape", "Squeeze"),
)


@dataclass(frozen=True)
class StageOutput:
    """One output of a stage for some samples, [samples, rows per sample, ...], and the logits before its Softmax.

    Without a Softmax `logits` is None, and `rows` are the logits.
    """

    rows: Rows
    logits: Rows | None

    def at(self, order: npt.NDArray[np.int64]) -> StageOutput:
        """Return the output for the samples at these places."""
        return StageOutput(self.rows[order], None if self.logits is None else self.logits[order])


@dataclass(frozen=True)
class Probe:
    """A graph with the logits before a final Softmax as further outputs, and the samples that it takes.

    It takes `batch` samples, each `rows_per_sample` rows of the input. A graph in bfloat16, for which ONNX Runtime has
    no kernels on the CPU, is `widened`: it computes in float32, with the same weights.
    """

    content: bytes
    entry: str
    batch: int
    row_shape: tuple[int, ...]
    rows_per_sample: int
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    number_format: NumberFormat
    widened: bool

    @classmethod
    def of(cls, model: ir.Model) -> Probe:
        """Return the probe of `model`, which is left unchanged; a symbolic batch runs as 2.

        Raises UsageError for samples of unknown size.
        """
        twin = model.clone()
        widened = widen_bfloat16(twin)
        entry = data_input(twin)
        row = tuple(entry.shape or ())[1:]
        if entry.dtype is None or not all(isinstance(dim, int) for dim in row):
            raise UsageError(
                f"The input {entry.name} has the shape {entry.shape}; to be run, everything but the batch must be "
                f"a number. Set the sizes: export/modify_onnx.py --input_shape {entry.name}:1,8,3,224,224."
            )
        names = tuple(str(value.name) for value in twin.graph.outputs)
        _add_logits(twin)
        return cls(
            content=model_bytes(twin),
            entry=str(entry.name),
            batch=batch_of(twin) or 2,
            row_shape=tuple(int(dim) for dim in row if isinstance(dim, int)),
            rows_per_sample=rows_per_sample(twin),
            dtype=np.dtype(entry.dtype.numpy()),
            outputs=names,
            number_format=number_format(model),
            widened=widened,
        )

    @property
    def remark(self) -> str:
        """What the name of a compared stage should add."""
        return " (bfloat16 computed as float32)" if self.widened else ""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: that of a row, or of all its rows where there are several."""
        return (self.rows_per_sample, *self.row_shape) if self.rows_per_sample > 1 else self.row_shape

    def run(
        self, samples: npt.NDArray[Any], order: npt.NDArray[np.int64], *, time_limit: float = TIME_LIMIT
    ) -> dict[str, StageOutput]:
        """Return every output for `samples[order]`, the last batch filled up with the first sample.

        The session lives no longer than this call, so that two probes never hold their activations at once.
        Raises BadDataError when ONNX Runtime rejects the graph, has not computed one batch after `time_limit` seconds
        or gives rows that do not divide among the samples.
        """
        session = Session(self.content, time_limit=time_limit)
        gathered: dict[str, list[Rows]] = {name: [] for name in session.outputs}
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            filled = np.concatenate([part, np.repeat(order[:1], self.batch - len(part))])
            fed = samples[filled].reshape(self.batch * self.rows_per_sample, *self.row_shape)
            outputs = session.run({self.entry: fed.astype(self.dtype, copy=False)})
            for name, output in zip(session.outputs, outputs, strict=True):
                if not output.ndim or output.shape[0] % self.batch:
                    raise BadDataError(
                        f"The output {name} has the shape {output.shape} for a batch of {self.batch}: its rows "
                        "cannot be assigned to samples."
                    )
                # The clips of logits may be a dimension of their own or part of the first one.
                tail = output.shape[1:] if name in self.outputs else output.shape[-1:]
                by_sample = output.astype(np.float64).reshape(self.batch, -1, *tail)
                gathered[name].append(by_sample[: len(part)])
        found = {name: np.concatenate(parts) for name, parts in gathered.items()}
        return {
            name: StageOutput(found[name], found.get(_logits_of(place)))
            for place, name in enumerate(self.outputs)
        }


def random_samples(
    count: int, shape: Sequence[int], dtype: np.dtype[Any], *, seed: int = 0
) -> npt.NDArray[Any]:
    """Return samples as a network sees them: normal deviates, or bytes 0..255 for uint8.

    Raises BadDataError for any other type.
    """
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.standard_normal((count, *shape), dtype=np.float32).astype(dtype)
    if dtype == np.uint8:
        return generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    raise BadDataError(
        f"The graph takes {dtype} samples; only floating-point numbers and uint8 pixels are supported here."
    )


def _logits_of(place: int) -> str:
    return f"logits_of_output_{place}"


def _add_logits(model: ir.Model) -> None:
    for place, output in enumerate(tuple(model.graph.outputs)):
        softmax = _final_softmax(output)
        if softmax is None or softmax.inputs[0] is None:
            continue
        copy = ir.Value(name=_logits_of(place))
        model.graph.append(ir.node("Identity", [softmax.inputs[0]], outputs=[copy]))
        model.graph.outputs.append(copy)


def _final_softmax(output: ir.Value) -> ir.Node | None:
    """Return the Softmax that gives `output`, unlike one inside the network, such as that of an attention block."""
    node = output.producer()
    while node is not None and node.op_type in _AFTER_SOFTMAX and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Softmax" else None
