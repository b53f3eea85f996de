"""ONNX Runtime's execution providers: selected by name, then checked for actual use.

ONNX Runtime silently falls back to the CPU where a provider fails to load its libraries, and assigns to the CPU each
node that a provider does not support. Speed measured that way would be attributed to a device that was not used.
Source: onnxruntime `InferenceSession`, its fallback and its graph assignment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidom.errors import (
    BadDataError,
    ExternalToolError,
    UnavailableError,
    UsageError,
    UserError,
    is_refused_memory,
)

__all__ = [
    "CPU",
    "GRAPH_ASSIGNMENT",
    "UNKNOWN_OPTION",
    "check_used",
    "installed_provider",
    "load_failure",
    "nodes_by_provider",
    "provider_options",
    "run_failure",
]

CPU = "CPUExecutionProvider"
GRAPH_ASSIGNMENT = "session.record_ep_graph_assignment_info"
_SUFFIX = "ExecutionProvider"
# The providers that document the option device_id (onnxruntime.ai/docs/execution-providers).
_NUMBERED = ("CUDA", "Tensorrt", "NvTensorRtRtx", "ROCM", "MIGraphX", "Dml", "CANN")
# What a provider is given besides. CANN's would write an .om into the current folder.
_SETTINGS = {"CANN": {"enable_cann_graph": "1", "dump_om_model": "0"}}
UNKNOWN_OPTION = "nknown provider option"
# Errors of ONNX Runtime that are about the model, by class.
_REJECTIONS = ("InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")


def installed_provider(name: str, available: Sequence[str]) -> str:
    """Return the full name of the execution provider, given with or without its suffix, in any case.

    Raises UnavailableError that lists the `available` ones, those of the installed onnxruntime.
    """
    known = {_short(provider): provider for provider in available}
    if _short(name) in known:
        return known[_short(name)]
    advice = (
        "--engine cann runs it in an interpreter of its own"
        if _short(name) == "cann"
        else "Each provider comes with a package of its own that replaces onnxruntime; install the one for the "
        "device, or name one of these"
    )
    raise UnavailableError(
        f"--provider {name} is not in the installed onnxruntime, which has "
        f"{', '.join(provider.removesuffix(_SUFFIX) for provider in available)}. {advice}."
    )


def provider_options(provider: str, device: int) -> dict[str, str]:
    """Return the provider's options that select the device, and those that it always has here.

    Raises UsageError for a device other than 0 of a provider that has no numbered devices; the CPU ignores it.
    """
    short = provider.removesuffix(_SUFFIX)
    if short in _NUMBERED:
        return {"device_id": str(device), **_SETTINGS.get(short, {})}
    if device and provider != CPU:
        raise UsageError(
            f"--device {device}: the provider {short} has no numbered devices. Leave it out; these have: "
            f"{', '.join(_NUMBERED)}."
        )
    return {}


def nodes_by_provider(session: Any) -> Mapping[str, int]:
    """Return how many nodes of the graph each provider runs, nothing where this onnxruntime cannot report it.

    The session must have been created with the entry GRAPH_ASSIGNMENT.
    """
    assignment = getattr(session, "get_provider_graph_assignment_info", None)
    if assignment is None:
        return {}
    counts: Counter[str] = Counter()
    for part in assignment():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def load_failure(
    kind: str, reason: str, provider: str, *, version: str, path: Path
) -> UserError | MemoryError:
    """Return the error for a session that could not be created: the class of ONNX Runtime's exception and its text.

    BadDataError where the model is at fault, UnavailableError where the provider or its libraries are, MemoryError
    where there is no more memory.
    """
    if is_refused_memory(reason):
        return MemoryError(reason)
    if UNKNOWN_OPTION in reason:
        return UnavailableError(
            f"onnxruntime {version} lacks an option of {provider} that is used here ({reason}). "
            "Install a newer version of the package that has this provider."
        )
    if provider == CPU or kind in _REJECTIONS or "Load model from" in reason:
        return BadDataError(
            f"{path} is not a model that ONNX Runtime {version} can load with {provider} ({reason}). "
            "It may be truncated; export it again."
        )
    return UnavailableError(
        f"{provider} could not start ({reason}). Install the driver and libraries that it needs, or compute on the CPU "
        "(--engine onnxruntime without --provider)."
    )


def run_failure(provider: str, path: Path, reason: str) -> UserError | MemoryError:
    """Return the error for a run that ended with an exception of ONNX Runtime; its inputs were checked before."""
    if is_refused_memory(reason):
        return MemoryError(reason)
    if provider == CPU:
        return BadDataError(f"ONNX Runtime fails while it runs {path}: {reason}")
    return ExternalToolError(
        f"{provider} fails while it runs {path} ({reason}). Check the device and its driver; whether the model is at "
        "fault, a run on the CPU shows (--engine onnxruntime)."
    )


def check_used(loaded: Sequence[str], nodes: Mapping[str, int], provider: str, path: Path) -> None:
    """Raise UnavailableError unless the provider is the session's first and runs nodes of the graph.

    `loaded` are the session's providers, `nodes` their numbers of nodes where they are known.
    """
    if loaded[0] != provider:
        found = (
            f"the session was created with {', '.join(loaded)}; the libraries it needs could not be loaded"
        )
    elif nodes and not nodes.get(provider):
        others = ", ".join(f"{count} by {name}" for name, count in nodes.items())
        found = f"none of the graph's nodes are assigned to it ({others})"
    else:
        return
    raise UnavailableError(
        f"{provider} would not run {path}: {found}. Measured speed would be that of a different device, so nothing "
        "was run. Install what the provider needs, or compute on the CPU (--engine onnxruntime "
        "without --provider)."
    )


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())
