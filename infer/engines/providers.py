"""ONNX Runtime's execution providers: taken by name, and held to it.

ONNX Runtime falls back to the CPU without a word where a provider fails to load its libraries, and leaves to
the CPU each node that a provider does not know. A speed measured so would be named after a device that had no
part in it. Source: onnxruntime `InferenceSession`, its fallback and its graph assignment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from vidom.errors import UnavailableError

__all__ = ["CPU", "GRAPH_ASSIGNMENT", "check_used", "installed_provider", "nodes_by_provider"]

CPU = "CPUExecutionProvider"
GRAPH_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_SUFFIX = "ExecutionProvider"


def installed_provider(name: str) -> str:
    """Return the full name of the execution provider, given with or without its ending, in any case.

    Raises UnavailableError that lists those which the installed onnxruntime has.
    """
    present: list[str] = onnxruntime.get_available_providers()
    known = {_short(provider): provider for provider in present}
    if _short(name) in known:
        return known[_short(name)]
    raise UnavailableError(
        f"--provider {name} is not in this onnxruntime {onnxruntime.__version__}, which has "
        f"{', '.join(provider.removesuffix(_SUFFIX) for provider in present)}. Each provider comes with a package "
        "of its own that replaces onnxruntime; install the one for the device, or name one of these."
    )


def nodes_by_provider(session: Any) -> Mapping[str, int]:
    """Return how many nodes of the graph each provider runs, nothing where this onnxruntime cannot tell.

    The session must have been made with the entry GRAPH_ASSIGNMENT.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return {}
    counts: Counter[str] = Counter()
    for part in tell():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def check_used(session: Any, provider: str, path: Path) -> None:
    """The provider is the session's first and runs nodes of the graph, else UnavailableError says what ran instead."""
    loaded, nodes = session.get_providers(), nodes_by_provider(session)
    if loaded[0] != provider:
        found = f"the session was made with {', '.join(loaded)}; the libraries it needs could not be loaded"
    elif nodes and not nodes.get(provider):
        others = ", ".join(f"{count} by {name}" for name, count in nodes.items())
        found = f"it takes none of the graph's nodes ({others})"
    else:
        return
    raise UnavailableError(
        f"{provider} would not run {path}: {found}. Its speed would be that of another device, so nothing was "
        "run. Install what the provider needs, or leave --provider out for the CPU."
    )


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())
