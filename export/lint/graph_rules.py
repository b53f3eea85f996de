"""Rules on the graph as a whole: opset, domains, operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from export.atc.cann_versions import opset_range
from export.lint.listed_operators import LISTED
from export.lint.rule import Fault, Rule, Severity
from export.lint.subject import Subject, label

__all__ = ["GRAPH_RULES"]

# Outside these no release reads a graph; inside, a newer one may.
_EARLIEST, _LATEST = 9, 18


def _opset(subject: Subject) -> Iterator[Fault]:
    """The opset is one that ATC of this release, or of every release, reads."""
    found = subject.opset
    span = opset_range(subject.cann)
    if found is None or span.first <= found <= span.last:
        return
    release = "every CANN release" if subject.cann is None else f"CANN {'.'.join(map(str, subject.cann))}"
    surely = subject.cann is not None or not _EARLIEST <= found <= _LATEST
    yield Fault(
        "graph",
        f"opset {found} is outside {span}, which {release} reads ({span.source}); export with --opset 11 or 13, "
        "or name your release with --cann.",
        "error" if surely else "warning",
    )


def _one_domain(subject: Subject) -> Iterator[Fault]:
    """The file has exactly one opset_import entry, used or not, of the standard operators."""
    if len(subject.imports) != 1 or subject.opset is None:
        found = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in subject.imports) or "none"
        yield Fault(
            "graph",
            f"exactly one opset import, ai.onnx, is expected, but the file has {len(subject.imports)} ({found}), "
            "and unused ones count too (E16005); run export/modify_onnx.py, whose eliminate-dead drops those.",
        )


def _foreign_operator(subject: Subject) -> Iterator[Fault]:
    """No node and no model-local function is of another domain."""
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
    """Every operator is in CANN's list of ONNX operators."""
    # Later releases may list more; the list known here is that of 8.0.
    severity: Severity = "warning" if subject.cann is not None and subject.cann >= (9, 0) else "error"
    counts = Counter(node.op_type for node in subject.of(*{node.op_type for node in subject.nodes}))
    for operator, count in sorted(counts.items()):
        if operator not in LISTED:
            yield Fault(
                operator,
                f"{count} node(s) of an operator that CANN 8.0's list of ONNX operators lacks (expect E19010, "
                "E13010 or EZ3003); rewrite it with listed operators.",
                severity,
            )


def _control_flow(subject: Subject) -> Iterator[Fault]:
    """No branch is decided while the network runs."""
    for node in subject.of("If"):
        yield Fault(
            label(node),
            "a branch decided at run time is expected to be gone from a video network; export with fixed shapes so "
            "that it folds, or remove it.",
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
