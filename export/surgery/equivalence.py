"""The proof that surgery kept the meaning: both graphs run on the same samples, compared row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from export.surgery.contract import AverageClips
from export.surgery.model_file import model_bytes
from export.surgery.values import batch_of, data_input
from vidom.errors import BadData, UsageError

__all__ = ["TOLERANCE", "Difference", "Equivalence", "prove_equal"]

# Of the largest magnitude among the original's rows, for anything but probabilities. Trained-like logits of TSM
# and I3D reach 4 to 8 and differ from their own float64 run by up to 7e-5 and 1.7e-4; two float32 runs that
# sum in another order may differ by twice that. A mistaken shift moves them by 2 or more.
TOLERANCE = 1e-4
# What may lie between a Softmax and the output that averages its rows.
_AFTER_SOFTMAX = ("Identity", "ReduceMean", "Reshape", "Squeeze")

_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How far apart the two graphs are in one output, or in the logits in front of its Softmax."""

    what: str
    samples: int
    max_abs: float
    max_rel: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is a number and within the tolerance, both absolute."""
        return self.max_abs <= self.tolerance


@dataclass(frozen=True)
class Equivalence:
    """All differences that were measured."""

    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether every one of them is within the tolerance."""
        return bool(self.differences) and all(difference.passed for difference in self.differences)

    def lines(self) -> str:
        """Return one line per difference for a person to read."""
        return "\n".join(
            f"{item.what}: {item.samples} random samples, max abs diff {item.max_abs:.3g} (allowed "
            f"{item.tolerance:.3g}), {item.max_rel:.3g} of the largest magnitude"
            for item in self.differences
        )


def prove_equal(
    original: ir.Model,
    modified: ir.Model,
    *,
    average_clips: AverageClips = "score",
    rounds: int = 2,
    seed: int = 0,
) -> Equivalence:
    """Return how far `modified` is from `original` on `rounds` random batches, sample by sample.

    Inputs are normal deviates, as normalised clips are (bytes 0..255 for a uint8 input). Each graph runs at
    its own batch, the last one filled with the first sample again; a symbolic batch runs as 2. Where the
    original gives V rows per sample and the other one, the rows are averaged here as `average_clips` says:
    softmax of the mean logits for "score", mean of the rows for "prob". Logits in front of a Softmax are
    compared too, since probabilities alone hide errors where all classes are about equally likely.

    Raises BadData when ONNX Runtime refuses a graph or the two give rows that cannot be compared.
    """
    first, second = _Probe.of(original), _Probe.of(modified)
    if first.sample_shape != second.sample_shape or first.dtype != second.dtype:
        raise BadData(
            f"The two graphs take different samples: {first.dtype} {list(first.sample_shape)} and "
            f"{second.dtype} {list(second.sample_shape)}. They cannot be compared."
        )
    samples = _random_samples(rounds * second.batch, first.sample_shape, first.dtype, seed=seed)
    before, after = first.rows(samples), second.rows(samples)
    differences = []
    for index, name in enumerate(first.outputs):
        logits, theirs = before.get(_logits_of(index)), after.get(_logits_of(index))
        expected = _per_sample(before[name], logits, after[name], average_clips)
        share = TOLERANCE
        if logits is not None and theirs is not None:
            matching = logits if logits.shape == theirs.shape else logits.mean(axis=1, keepdims=True)
            found = _difference("logits before its Softmax", matching, theirs, share=TOLERANCE)
            differences.append(found)
            # Logits that are wrong by d make a probability p wrong by up to 2 d p.
            share = 2 * found.tolerance
        differences.append(_difference(f"output {name}", expected, after[name], share=share))
    return Equivalence(tuple(differences))


@dataclass(frozen=True)
class _Probe:
    """A session that also gives out the logits in front of a final Softmax."""

    session: Any
    entry: str
    batch: int
    sample_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: ir.Model) -> _Probe:
        twin = model.clone()
        entry = data_input(twin)
        sample = tuple(entry.shape or ())[1:]
        if entry.dtype is None or not all(isinstance(dim, int) for dim in sample):
            raise UsageError(
                f"The input {entry.name} has the shape {entry.shape}; to be run, everything but the batch must be "
                "a number. Export it with fixed sizes."
            )
        names = tuple(str(value.name) for value in twin.graph.outputs)
        _give_out_logits(twin)
        return cls(
            session=_session(model_bytes(twin)),
            entry=str(entry.name),
            batch=batch_of(twin) or 2,
            sample_shape=tuple(int(dim) for dim in sample if isinstance(dim, int)),
            dtype=np.dtype(entry.dtype.numpy()),
            outputs=names,
        )

    def rows(self, samples: npt.NDArray[Any]) -> dict[str, Rows]:
        """Return every output as [samples, rows per sample, ...]."""
        names = [output.name for output in self.session.get_outputs()]
        gathered: dict[str, list[Rows]] = {name: [] for name in names}
        for start in range(0, len(samples), self.batch):
            part = samples[start : start + self.batch]
            filled = np.concatenate([part, np.repeat(samples[:1], self.batch - len(part), axis=0)])
            for name, output in zip(names, self._run(names, filled), strict=True):
                if not output.ndim or output.shape[0] % self.batch:
                    raise BadData(
                        f"The output {name} has the shape {output.shape} for a batch of {self.batch}: its rows "
                        "cannot be assigned to samples."
                    )
                by_sample = output.astype(np.float64).reshape(self.batch, -1, *output.shape[1:])
                gathered[name].append(by_sample[: len(part)])
        return {name: np.concatenate(parts) for name, parts in gathered.items()}

    def _run(self, names: list[str], batch: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        try:
            return list(self.session.run(names, {self.entry: batch}))
        except _REFUSALS as error:
            raise BadData(f"ONNX Runtime cannot run the graph: {' '.join(str(error).split())}") from None


def _session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    # Without it every weight that an old exporter lists as an input is a warning.
    options.log_severity_level = 3
    # Threads that spin between operators starve whatever else the machine is doing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise BadData(f"ONNX Runtime refuses the graph: {' '.join(str(error).split())}") from None


def _logits_of(index: int) -> str:
    return f"logits_of_output_{index}"


def _give_out_logits(model: ir.Model) -> None:
    for index, output in enumerate(tuple(model.graph.outputs)):
        softmax = _last_softmax(output)
        if softmax is None or softmax.inputs[0] is None:
            continue
        logits = softmax.inputs[0]
        copy = ir.Value(name=_logits_of(index), type=output.type)
        model.graph.append(ir.node("Identity", [logits], outputs=[copy]))
        model.graph.outputs.append(copy)


def _last_softmax(output: ir.Value) -> ir.Node | None:
    node = output.producer()
    while node is not None and node.op_type in _AFTER_SOFTMAX and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Softmax" else None


def _random_samples(count: int, shape: Sequence[int], dtype: np.dtype[Any], *, seed: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.standard_normal((count, *shape), dtype=np.float32).astype(dtype)
    if dtype == np.uint8:
        return generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    raise BadData(
        f"The graph takes {dtype} samples; only floating-point numbers and uint8 pixels can be tried."
    )


def _per_sample(rows: Rows, logits: Rows | None, other: Rows, average_clips: AverageClips) -> Rows:
    if rows.shape == other.shape:
        return rows
    if other.shape[1] != 1 or rows.shape[2:] != other.shape[2:]:
        raise BadData(
            f"The original gives {list(rows.shape[1:])} for a sample and the modified graph "
            f"{list(other.shape[1:])}: neither the same rows nor their average."
        )
    if average_clips == "score" and logits is not None:
        return _softmax(logits.mean(axis=1, keepdims=True))
    averaged: Rows = rows.mean(axis=1, keepdims=True)
    return averaged


def _softmax(logits: Rows) -> Rows:
    powers: Rows = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: Rows = powers / powers.sum(axis=-1, keepdims=True)
    return normalised


def _difference(what: str, expected: Rows, found: Rows, *, share: float) -> Difference:
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Difference(what, len(expected), max_abs=float("nan"), max_rel=float("nan"), tolerance=0.0)
    distance = float(np.abs(expected - found).max(initial=0.0))
    scale = float(np.abs(expected).max(initial=0.0))
    relative = distance / scale if scale else float(distance > 0)
    return Difference(what, len(expected), max_abs=distance, max_rel=relative, tolerance=share * scale)
