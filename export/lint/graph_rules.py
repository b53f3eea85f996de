"""Rules on opset, domains and operators of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from export.atc.cann_versions import opset_range
from export.lint.rule import Fault, Rule, Severity
from export.lint.subject import Subject, label

__all__ = ["GRAPH_RULES"]

# No release reads a graph outside these; a newer one may read more inside.
_EARLIEST, _LATEST = 9, 18

# The ONNX operators that CANN documents for ATC, in alphabetical order. Source: CANN 8.0.0 (commercial), operator
# list, "Supported ONNX operators" (operatorlist_00176); that of 5.0.4 is a subset.
_LISTED_NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd
BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvTranspose
Cos Cosh CumSum DepthToSpace Det Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool MaxUnpool Mean
MeanVarianceNormalization Min Mod Mul Multinomial Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RoiAlign Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_LISTED = frozenset(_LISTED_NAMES.split())


def _opset(subject: Subject) -> Iterator[Fault]:
    """Require an opset that ATC of this release, or of every release, reads."""
    opset = subject.opset
    supported = opset_range(subject.cann)
    if opset is None or supported.first <= opset <= supported.last:
        return
    release = "every CANN release" if subject.cann is None else f"CANN {'.'.join(map(str, subject.cann))}"
    surely = subject.cann is not None or not _EARLIEST <= opset <= _LATEST
    yield Fault(
        "graph",
        f"opset {opset} is outside {supported}, which {release} reads ({supported.source}); export with --opset 11 "
        "or 13, or specify your release with --cann.",
        "error" if surely else "warning",
    )


def _one_domain(subject: Subject) -> Iterator[Fault]:
    """Require exactly one opset_import entry, that of the standard operators; unused entries count too."""
    if len(subject.imports) != 1 or subject.opset is None:
        found = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in subject.imports) or "none"
        yield Fault(
            "graph",
            f"exactly one opset import, ai.onnx, is expected, but the file has {len(subject.imports)} ({found}), "
            "and unused ones count too (E16005); run export/modify_onnx.py, whose dead-node-elimination drops those.",
        )


def _foreign_operator(subject: Subject) -> Iterator[Fault]:
    """Reject nodes and model-local functions of other domains."""
    foreign = Counter(
        f"{node.domain}::{node.op_type}" for node in subject.nodes if node.domain not in ("", "ai.onnx")
    )
    for name, count in sorted(foreign.items()):
        yield Fault(
            name,
            f"{count} node(s) use an operator outside ai.onnx, for which ATC has no parser (E19010, E13010); export "
            "with the TorchScript exporter (dynamo=False) or replace the operator.",
        )


def _listed_operator(subject: Subject) -> Iterator[Fault]:
    """Require every operator to be in CANN's list of ONNX operators."""
    # Later releases may list more; this list is that of 8.0.
    severity: Severity = "warning" if subject.cann is not None and subject.cann >= (9, 0) else "error"
    counts = Counter(node.op_type for node in subject.of(*{node.op_type for node in subject.nodes}))
    for operator, count in sorted(counts.items()):
        if operator not in _LISTED:
            yield Fault(
                operator,
                f"{count} node(s) of an operator that is not in CANN 8.0's list of ONNX operators (expect E19010, "
                "E13010 or EZ3003); rewrite it with listed operators.",
                severity,
            )


def _control_flow(subject: Subject) -> Iterator[Fault]:
    """Warn about branches that are decided at run time."""
    for node in subject.of("If"):
        yield Fault(
            label(node),
            "a video network should not branch at run time; export with fixed shapes so that the branch is folded, "
            "or remove it.",
        )


GRAPH_RULES = (
    Rule("opset", "error", "DOC ATC guide, ONNX operator specification of each release", _opset),
    Rule("one-domain", "error", "SRC ge error_registry.cc E16005", _one_domain),
    Rule(
        "foreign-operator", "error", "SRC plugins are registered as ai.onnx::<opset>::<Op>", _foreign_operator
    ),
    Rule(
        "unlisted-operator",
        "error",
        "DOC CANN 8.0.0 operator list; ATC guide, general restrictions: only listed operators",
        _listed_operator,
    ),
    Rule(
        "control-flow",
        "warning",
        "DOC --dynamic_batch_size: no shapes that change inside the net",
        _control_flow,
    ),
)
