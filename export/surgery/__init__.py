"""Surgery on ONNX graphs: small named passes that recognise patterns, never a model's numbers.

`run_passes` applies them in the order of `PASSES`; `equivalence.prove_equal` shows that the meaning stayed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from export.surgery.model_file import load_model, model_bytes
from export.surgery.operator_counts import Census, census, census_table
from export.surgery.pass_types import AVERAGES, TARGETS, AverageClips, Options, Pass, Target
from export.surgery.passes.average_views import average_views
from export.surgery.passes.dead_nodes import eliminate_dead
from export.surgery.passes.fold_constants import fold_constants, share_duplicates
from export.surgery.passes.fold_scale import fold_scale
from export.surgery.passes.hoist_mean import average_early
from export.surgery.passes.merge_slices import merge_slices
from export.surgery.passes.push_stride import pool_stride
from export.surgery.passes.set_batch import set_batch
from export.surgery.passes.split_shift import split_shift
from export.surgery.passes.time_major import time_major
from export.surgery.passes.zero_blocks import pad_blanks, zero_blanks
from vidom.errors import UsageError

__all__ = [
    "AVERAGES",
    "PASSES",
    "TARGETS",
    "AverageClips",
    "Pass",
    "Step",
    "SurgeryResult",
    "Target",
    "census_table",
    "model_bytes",
    "run_passes",
]

PASSES: tuple[Pass, ...] = (
    Pass("set-batch", "write the batch size into the input and into every Reshape", set_batch),
    Pass("fold-constants", "compute what follows from constants and static shapes", fold_constants),
    Pass("share-duplicates", "compute equal nodes once, keep equal weights once", share_duplicates),
    Pass("fold-scale", "subtract the mean of pixels, scale them in the first convolution", fold_scale),
    Pass("zero-blanks", "turn zeros computed as x - x into constants", zero_blanks),
    Pass("pad-blanks", "turn zero blocks joined by Concat into Pad", pad_blanks),
    Pass("merge-slices", "cut once where consecutive Slices cut one after the other", merge_slices),
    Pass("average-views", "average the clips of a sample inside the graph", average_views),
    Pass("average-early", "average frames in front of the fully connected layer", average_early),
    Pass("split-shift", "give shifted channels a tensor of their own", split_shift, targets=("cpu",)),
    Pass("time-major", "order frames by time first, so that a shift moves whole frames", time_major),
    Pass("pool-stride", "compute no frames or pixels that the next pooling drops", pool_stride),
    Pass("eliminate-dead", "remove unused nodes, weights, functions and opset domains", eliminate_dead),
)


@dataclass(frozen=True)
class Step:
    """What one pass did."""

    name: str
    modified: bool
    before: Census
    after: Census


@dataclass(frozen=True)
class SurgeryResult:
    """The model after all passes, and what each did to its operators."""

    model: ir.Model
    steps: tuple[Step, ...]

    @property
    def modified(self) -> bool:
        """Whether any pass changed anything."""
        return any(step.modified for step in self.steps)

    @property
    def census_before(self) -> Census:
        """The operators of the model that was given."""
        return self.steps[0].before

    @property
    def census_after(self) -> Census:
        """The operators of the model that came out."""
        return self.steps[-1].after


def run_passes(
    model: ir.Model | Path,
    *,
    passes: Sequence[str] | None = None,
    batch_size: int | None = None,
    average_clips: AverageClips = "score",
    target: Target = "ascend310p",
) -> SurgeryResult:
    """Return `model`, a graph or the path of one, after the named passes, for None all that serve `target`.

    Passes run in the order of `PASSES`, however they are listed; the model given is left as it is. The same
    model and options give the same bytes, and the result's own surgery changes nothing.

    Raises UsageError for an unknown or empty list of passes and for options that do not fit the graph,
    BadDataError for a file that is no valid model or a graph that the batch cannot be written into.
    """
    chosen = _chosen(passes, target)
    options = Options(batch_size=batch_size, average_clips=average_clips, target=target)
    subject = load_model(model) if isinstance(model, Path) else model.clone()
    steps = []
    before = census(subject)
    for item in chosen:
        modified = item.apply(subject, options)
        after = census(subject)
        steps.append(Step(item.name, modified, before, after))
        before = after
    return SurgeryResult(subject, tuple(steps))


def _chosen(names: Sequence[str] | None, target: Target) -> tuple[Pass, ...]:
    known = [item.name for item in PASSES]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"There is no pass {name!r}.{hint} The passes are: {', '.join(known)}.")
    if names is not None and not names:
        raise UsageError(f"No pass was named. The passes are: {', '.join(known)}.")
    if target not in TARGETS:
        raise UsageError(f"There is no target {target!r}. The targets are: {', '.join(TARGETS)}.")
    unfit = [item for item in PASSES if item.name in (names or ()) and target not in item.targets]
    if unfit:
        raise UsageError(
            f"The pass {unfit[0].name} serves {', '.join(unfit[0].targets)}, not the target {target}. Leave it out."
        )
    return tuple(item for item in PASSES if target in item.targets and (names is None or item.name in names))
