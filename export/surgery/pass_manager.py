"""The passes in their order, and the function that applies them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from export.surgery.model_file import load_model
from export.surgery.operator_counts import OperatorCounts, count_operators
from export.surgery.pass_types import TARGETS, AverageClips, Options, Pass, Target
from export.surgery.passes.average_views import average_views
from export.surgery.passes.common_subexpression_elimination import common_subexpression_elimination
from export.surgery.passes.concat_zeros_to_pad import concat_zeros_to_pad
from export.surgery.passes.constant_fold_zeros import constant_fold_zeros
from export.surgery.passes.dead_node_elimination import dead_node_elimination
from export.surgery.passes.fold_constants import fold_constants
from export.surgery.passes.fold_scale import fold_scale
from export.surgery.passes.hoist_mean import hoist_mean
from export.surgery.passes.merge_slices import merge_slices
from export.surgery.passes.push_stride import push_stride
from export.surgery.passes.set_batch import set_batch
from export.surgery.passes.split_shift import split_shift
from export.surgery.passes.time_major import time_major
from vidom.errors import UsageError

__all__ = ["PASSES", "Step", "SurgeryResult", "current_names", "run_passes"]

PASSES: tuple[Pass, ...] = (
    Pass("set-batch", "write the batch size into the input and into every Reshape", set_batch),
    Pass("fold-constants", "compute what follows from constants and static shapes", fold_constants),
    Pass(
        "common-subexpression-elimination",
        "compute equal nodes once, keep equal weights once",
        common_subexpression_elimination,
    ),
    Pass("fold-scale", "subtract the mean of pixels, scale them in the first convolution", fold_scale),
    Pass("constant-fold-zeros", "turn zeros computed as x - x into constants", constant_fold_zeros),
    Pass("concat-zeros-to-pad", "turn zero blocks joined by Concat into Pad", concat_zeros_to_pad),
    Pass("merge-slices", "merge consecutive Slices into one", merge_slices),
    Pass("average-views", "average the clips of a sample inside the graph", average_views),
    Pass("hoist-mean", "average frames before the fully connected layer", hoist_mean),
    Pass("split-shift", "keep shifted channels in a separate tensor", split_shift, targets=("cpu",)),
    Pass("time-major", "order frames by time first, so that a shift moves contiguous frames", time_major),
    Pass("push-stride", "compute no frames or pixels that the next pooling drops", push_stride),
    Pass(
        "dead-node-elimination",
        "remove unused nodes, weights, functions and opset domains",
        dead_node_elimination,
    ),
)

# Names of earlier versions, still accepted.
_EARLIER_NAMES = {
    "share-duplicates": "common-subexpression-elimination",
    "zero-blanks": "constant-fold-zeros",
    "pad-blanks": "concat-zeros-to-pad",
    "average-early": "hoist-mean",
    "pool-stride": "push-stride",
    "eliminate-dead": "dead-node-elimination",
}


@dataclass(frozen=True)
class Step:
    """What one pass did."""

    name: str
    modified: bool
    before: OperatorCounts
    after: OperatorCounts


@dataclass(frozen=True)
class SurgeryResult:
    """The model after all passes, and what each did to its operators."""

    model: ir.Model
    steps: tuple[Step, ...]

    @property
    def modified(self) -> bool:
        """Whether any pass changed anything."""
        return any(step.modified for step in self.steps)


def current_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of passes with those of earlier versions replaced by their present ones."""
    return tuple(_EARLIER_NAMES.get(name, name) for name in names)


def run_passes(
    model: ir.Model | Path,
    *,
    passes: Sequence[str] | None = None,
    batch_size: int | None = None,
    average_clips: AverageClips = "score",
    target: Target = "ascend310p",
) -> SurgeryResult:
    """Return `model`, a graph or the path of one, after the named passes, for None all that support `target`.

    Passes run in the order of `PASSES`, however they are listed; the given model is left unchanged. The same
    model and options give the same bytes, and a second run on the result changes nothing.

    Raises UsageError for an unknown or empty list of passes and for options that do not fit the graph,
    BadDataError for an invalid ONNX file or a graph whose batch cannot be changed.
    """
    chosen = _chosen(None if passes is None else current_names(passes), target)
    options = Options(batch_size=batch_size, average_clips=average_clips, target=target)
    subject = load_model(model) if isinstance(model, Path) else model.clone()
    steps = []
    before = count_operators(subject)
    for item in chosen:
        modified = item.apply(subject, options)
        after = count_operators(subject)
        steps.append(Step(item.name, modified, before, after))
        before = after
    return SurgeryResult(subject, tuple(steps))


def _chosen(names: Sequence[str] | None, target: Target) -> tuple[Pass, ...]:
    known = [item.name for item in PASSES]
    for name in names or ():
        if name not in known:
            near = current_names(difflib.get_close_matches(name, [*known, *_EARLIER_NAMES], n=1, cutoff=0.4))
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"Unknown pass {name!r}.{hint} The passes are: {', '.join(known)}.")
    if names is not None and not names:
        raise UsageError(f"No pass was given. The passes are: {', '.join(known)}.")
    if target not in TARGETS:
        raise UsageError(f"Unknown target {target!r}. The targets are: {', '.join(TARGETS)}.")
    unsupported = [item for item in PASSES if item.name in (names or ()) and target not in item.targets]
    if unsupported:
        raise UsageError(
            f"The pass {unsupported[0].name} supports {', '.join(unsupported[0].targets)}, not the target {target}. "
            "Leave it out."
        )
    return tuple(item for item in PASSES if target in item.targets and (names is None or item.name in names))
