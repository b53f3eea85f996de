"""The knowledges of auto-optimizer (ait-surgeon 0.1.1): what each rewrites, and which are applied unasked.

Read from its sources: `pattern/knowledges/*.py` for what they do, `default_off_knowledges` in `common/click_utils.py`
and `NONEQUIVALENT_KNOWLEDGES` in `graph_optimizer/optimizer.py` for the kinds.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vidom.errors import UsageError

__all__ = ["KNOWLEDGES", "Knowledge", "chosen_knowledges", "knowledge_lines"]

Kind = Literal["default", "on request", "not equivalent", "refused"]


@dataclass(frozen=True)
class Knowledge:
    """One rewriting by auto-optimizer.

    `default` is applied unasked; `on request` and `not equivalent` only by name, the latter changing the meaning
    by intent; `refused` cannot be run from here, `summary` says why.
    """

    name: str
    kind: Kind
    summary: str


# In auto-optimizer's order, in which its fixes come last.
KNOWLEDGES: tuple[Knowledge, ...] = (
    Knowledge("KnowledgeConv1d2Conv2d", "default", "turn 1-D convolutions into 2-D ones"),
    Knowledge(
        "KnowledgeMergeConsecutiveSlice", "default", "join up to four Slices in a row along different axes"
    ),
    Knowledge(
        "KnowledgeTransposeLargeInputConv",
        "default",
        "swap height and width where the width is 20000 or more",
    ),
    Knowledge("KnowledgeMergeConsecutiveConcat", "default", "join Concats in a row along the same axis"),
    Knowledge(
        "KnowledgeTypeCast", "default", "int64 to int32 and float64 to float32, with Casts where needed"
    ),
    Knowledge("KnowledgeSplitQKVMatmul", "on request", "split the joint MatMul of an attention block"),
    Knowledge(
        "KnowledgeSplitLargeKernelConv", "default", "split convolutions with a kernel side of more than 192"
    ),
    Knowledge(
        "KnowledgeResizeModeToNearest",
        "not equivalent",
        "let Resize take the nearest pixel instead of blending",
    ),
    Knowledge("KnowledgeMergeCasts", "default", "join Casts in a row and drop those without effect"),
    Knowledge(
        "KnowledgeDynamicReshape",
        "refused",
        "it runs the graph through skl2onnx, which is not installed with it, to write free dimensions into Reshapes; "
        "-bs N fixes the batch without it",
    ),
    Knowledge("KnowledgeGatherToSplit", "on request", "one Split where Gathers take all parts of an axis"),
    Knowledge(
        "KnowledgeAvgPoolSplit", "default", "two pools instead of one whose window has 255 pixels or more"
    ),
    Knowledge("KnowledgeBNFolding", "default", "turn BatchNormalization between Transposes into Mul and Add"),
    Knowledge("KnowledgeModifyReflectionPad", "default", "build reflecting Pads from Slice and Concat"),
    Knowledge("KnowledgeTopkFix", "not equivalent", "convert the indices that TopK gives, for ATC"),
    Knowledge("KnowledgeEmptySliceFix", "not equivalent", "drop Slices that give nothing, for ATC"),
    Knowledge(
        "KnowledgeBigKernel",
        "refused",
        "it needs the first and last node of an attention block, which no network here has",
    ),
)


def chosen_knowledges(names: Sequence[str]) -> tuple[str, ...]:
    """Return the knowledges of `names` in auto-optimizer's order, those that are applied unasked for no names.

    Raises UsageError for a name that there is not and for one that cannot be run from here.
    """
    known = {item.name: item for item in KNOWLEDGES}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"auto-optimizer has no knowledge {name!r}.{hint} The knowledges are: {', '.join(known)}."
            )
        if known[name].kind == "refused":
            raise UsageError(f"{name} is not run from here: {known[name].summary}.")
    if not names:
        return tuple(item.name for item in KNOWLEDGES if item.kind == "default")
    return tuple(item.name for item in KNOWLEDGES if item.name in names)


def knowledge_lines() -> str:
    """Return a line for each knowledge: its name, its kind and what it does."""
    name = max(len(item.name) for item in KNOWLEDGES)
    kind = max(len(item.kind) for item in KNOWLEDGES)
    return "\n".join(f"{item.name:<{name}}  {item.kind:<{kind}}  {item.summary}" for item in KNOWLEDGES)
