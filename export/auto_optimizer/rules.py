"""The rewrite rules ("knowledges") of auto-optimizer (ait-surgeon 0.1.1) and which of them are enabled by default.

Read from its sources: `pattern/knowledges/*.py` for what they do, `default_off_knowledges` in `common/click_utils.py`
and `NONEQUIVALENT_KNOWLEDGES` in `graph_optimizer/optimizer.py` for the kinds.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vidom.errors import UsageError

__all__ = ["REWRITE_RULES", "RewriteRule", "rule_table", "selected_rules"]

Kind = Literal["default", "on request", "not equivalent", "unsupported"]


@dataclass(frozen=True)
class RewriteRule:
    """A rewrite rule of auto-optimizer.

    Rules of the kind `default` are enabled; those of `on request` and `not equivalent` are applied only by name, the
    latter changing the outputs on purpose; `unsupported` ones cannot be run by vidom, for the reason in `summary`.
    """

    name: str
    kind: Kind
    summary: str


# In auto-optimizer's order, in which its fixes come last.
REWRITE_RULES: tuple[RewriteRule, ...] = (
    RewriteRule("KnowledgeConv1d2Conv2d", "default", "replace 1-D convolutions by 2-D ones"),
    RewriteRule(
        "KnowledgeMergeConsecutiveSlice",
        "default",
        "merge up to four consecutive Slices along different axes",
    ),
    RewriteRule(
        "KnowledgeTransposeLargeInputConv",
        "default",
        "swap height and width where the width is at least 20000",
    ),
    RewriteRule(
        "KnowledgeMergeConsecutiveConcat", "default", "merge consecutive Concats along the same axis"
    ),
    RewriteRule(
        "KnowledgeTypeCast", "default", "int64 to int32 and float64 to float32, with Casts where needed"
    ),
    RewriteRule("KnowledgeSplitQKVMatmul", "on request", "split the joint MatMul of an attention block"),
    RewriteRule(
        "KnowledgeSplitLargeKernelConv", "default", "split convolutions with a kernel size above 192"
    ),
    RewriteRule(
        "KnowledgeResizeModeToNearest",
        "not equivalent",
        "replace interpolation in Resize by nearest neighbour",
    ),
    RewriteRule("KnowledgeMergeCasts", "default", "merge consecutive Casts and remove those without effect"),
    RewriteRule(
        "KnowledgeDynamicReshape",
        "unsupported",
        "it runs the graph through skl2onnx, which is not installed with it, to write symbolic dimensions into "
        "Reshapes; -bs N sets the batch size without it",
    ),
    RewriteRule("KnowledgeGatherToSplit", "on request", "one Split where Gathers take all parts of an axis"),
    RewriteRule(
        "KnowledgeAvgPoolSplit", "default", "split poolings with windows of 255 pixels or more into two"
    ),
    RewriteRule(
        "KnowledgeBNFolding", "default", "replace BatchNormalization between Transposes by Mul and Add"
    ),
    RewriteRule("KnowledgeModifyReflectionPad", "default", "replace reflecting Pads by Slice and Concat"),
    RewriteRule("KnowledgeTopkFix", "not equivalent", "cast the indices of TopK, for ATC"),
    RewriteRule("KnowledgeEmptySliceFix", "not equivalent", "remove Slices with empty results, for ATC"),
    RewriteRule(
        "KnowledgeBigKernel",
        "unsupported",
        "it needs the first and last node of an attention block, which none of the networks has",
    ),
)


def selected_rules(names: Sequence[str]) -> tuple[str, ...]:
    """Return the rules of `names` in auto-optimizer's order, or the default ones for no names.

    Raises UsageError for an unknown or unsupported name.
    """
    known = {rule.name: rule for rule in REWRITE_RULES}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"auto-optimizer has no rewrite rule {name!r}.{hint} Its rules are: {', '.join(known)}."
            )
        if known[name].kind == "unsupported":
            raise UsageError(f"{name} is not supported: {known[name].summary}.")
    if not names:
        return tuple(rule.name for rule in REWRITE_RULES if rule.kind == "default")
    return tuple(rule.name for rule in REWRITE_RULES if rule.name in names)


def rule_table() -> str:
    """Return a line for each rule: its name, its kind and what it does."""
    name = max(len(rule.name) for rule in REWRITE_RULES)
    kind = max(len(rule.kind) for rule in REWRITE_RULES)
    return "\n".join(f"{rule.name:<{name}}  {rule.kind:<{kind}}  {rule.summary}" for rule in REWRITE_RULES)
