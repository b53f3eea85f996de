"""A graph that can be run and also tells the logits in front of its Softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from export.surgery.model_file import model_bytes
from export.surgery.values import batch_of, data_input, rows_per_sample
from vidom.errors import BadDataError, UsageError

__all__ = ["Probe", "Rows", "logits_of"]

Rows = npt.NDArray[np.float64]

_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# What may lie between a Softmax and the output that averages its rows.
_AFTER_SOFTMAX = ("Identity", "ReduceMean", "Reshape", "Squeeze")


@dataclass(frozen=True)
class Probe:
    """A graph that also gives out the logits in front of a final Softmax, and what it takes.

    It takes `batch` samples, each `rows_per_sample` rows of the input.
    """

    content: bytes
    entry: str
    batch: int
    row_shape: tuple[int, ...]
    rows_per_sample: int
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: ir.Model) -> Probe:
        """Return the probe of `model`, which stays as it is. Raises UsageError for samples of unknown size."""
        twin = model.clone()
        entry = data_input(twin)
        row = tuple(entry.shape or ())[1:]
        if entry.dtype is None or not all(isinstance(dim, int) for dim in row):
            raise UsageError(
                f"The input {entry.name} has the shape {entry.shape}; to be run, everything but the batch must be "
                "a number. Export it with fixed sizes."
            )
        names = tuple(str(value.name) for value in twin.graph.outputs)
        _give_out_logits(twin)
        return cls(
            content=model_bytes(twin),
            entry=str(entry.name),
            batch=batch_of(twin) or 2,
            row_shape=tuple(int(dim) for dim in row if isinstance(dim, int)),
            rows_per_sample=rows_per_sample(twin),
            dtype=np.dtype(entry.dtype.numpy()),
            outputs=names,
        )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: that of a row, or of all its rows where there are several."""
        return (self.rows_per_sample, *self.row_shape) if self.rows_per_sample > 1 else self.row_shape

    def rows(self, samples: npt.NDArray[Any], order: npt.NDArray[np.int64]) -> dict[str, Rows]:
        """Return every output for `samples[order]`, each as [samples, rows per sample, ...].

        The session lives no longer than this call, so that two probes never hold their activations at once.
        Raises BadDataError when ONNX Runtime refuses the graph or its rows do not divide among the samples.
        """
        session = _session(self.content)
        names = [output.name for output in session.get_outputs()]
        gathered: dict[str, list[Rows]] = {name: [] for name in names}
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            filled = np.concatenate([part, np.repeat(order[:1], self.batch - len(part))])
            fed = samples[filled].reshape(self.batch * self.rows_per_sample, *self.row_shape)
            outputs = _run(session, names, {self.entry: fed})
            for name, output in zip(names, outputs, strict=True):
                if not output.ndim or output.shape[0] % self.batch:
                    raise BadDataError(
                        f"The output {name} has the shape {output.shape} for a batch of {self.batch}: its rows "
                        "cannot be assigned to samples."
                    )
                by_sample = output.astype(np.float64).reshape(self.batch, -1, *output.shape[1:])
                gathered[name].append(by_sample[: len(part)])
        return {name: np.concatenate(parts) for name, parts in gathered.items()}


def _run(session: Any, names: list[str], feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    try:
        return list(session.run(names, feeds))
    except _REFUSALS as error:
        raise BadDataError(f"ONNX Runtime cannot run the graph: {' '.join(str(error).split())}") from None


def _session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    # Without it every weight that an old exporter lists as an input is a warning.
    options.log_severity_level = 3
    # Threads that spin between operators starve whatever else the machine is doing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise BadDataError(f"ONNX Runtime refuses the graph: {' '.join(str(error).split())}") from None


def logits_of(index: int) -> str:
    """Return the name under which a probe gives the logits in front of output number `index`."""
    return f"logits_of_output_{index}"


def _give_out_logits(model: ir.Model) -> None:
    for index, output in enumerate(tuple(model.graph.outputs)):
        softmax = _last_softmax(output)
        if softmax is None or softmax.inputs[0] is None:
            continue
        logits = softmax.inputs[0]
        copy = ir.Value(name=logits_of(index), type=output.type)
        model.graph.append(ir.node("Identity", [logits], outputs=[copy]))
        model.graph.outputs.append(copy)


def _last_softmax(output: ir.Value) -> ir.Node | None:
    node = output.producer()
    while node is not None and node.op_type in _AFTER_SOFTMAX and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Softmax" else None
