"""Which engine runs a model here, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infer.engines.base import LOCAL_ENGINES, LocalEngine
from infer.options import ENGINES, EngineName
from vidom.errors import UnavailableError, UsageError, UserError
from vidom.files import read_json, sha256_file
from vidom.system.ais_bench_probe import probe_ais_bench
from vidom.system.npu import list_cards

__all__ = ["Choice", "choose_engine", "lacking_for_npu"]

_BUILD_RECORD = "build.json"


@dataclass(frozen=True)
class Choice:
    """The engine, the model it is given and the reason, a phrase."""

    engine: LocalEngine | Literal["ascend"]
    model: Path
    reason: str


def choose_engine(model: Path, asked: EngineName) -> Choice:
    """Return who runs the model: the engine asked for, or for `auto` the NPU where everything for it is here.

    `auto` given an .onnx takes the .om of the same name beside it, unless that was built from another .onnx.
    Raises UsageError for a model that the engine asked for cannot run, UnavailableError for an .om without an NPU.
    """
    if asked not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, found {asked!r}.")
    offline = model.suffix.lower() == ".om"
    if asked in LOCAL_ENGINES:
        if offline:
            raise UsageError(
                f"{model} is an offline model, which --engine {asked} can not run. Give the .onnx file that it "
                "was built from, or --engine ascend."
            )
        return Choice(asked, model, "asked for")
    if asked == "ascend":
        if not offline:
            raise UsageError(
                f"--engine ascend runs offline models, and {model} is none. Build the .om first (make om, or "
                "export/to_om.py), or use --engine onnxruntime."
            )
        return Choice("ascend", model, "asked for")
    return _offline(model) if offline else _best_of_both(model)


def _offline(model: Path) -> Choice:
    lacking = lacking_for_npu()
    if lacking:
        raise UnavailableError(
            f"{model} is an offline model, which only an Ascend NPU with ais_bench executes, and {lacking}. Run it "
            "where both are, or give the .onnx file that it was built from."
        )
    return Choice("ascend", model, "the model is an .om, and an NPU and ais_bench are here")


def _best_of_both(model: Path) -> Choice:
    om = model.with_suffix(".om")
    if not om.is_file():
        return Choice("onnxruntime", model, f"there is no {om.name} for an NPU beside the model")
    if not _built_from(om, model):
        return Choice("onnxruntime", model, f"{om.name} was built from another {model.name}")
    lacking = lacking_for_npu()
    if lacking:
        return Choice("onnxruntime", model, lacking)
    return Choice("ascend", om, f"{om.name} is beside the model, and an NPU and ais_bench are here")


def _built_from(om: Path, model: Path) -> bool:
    """Whether the build record, where there is one, says that this very file was compiled."""
    record = om.with_name(_BUILD_RECORD)
    if not record.is_file() or not model.is_file():
        return True
    entry = read_json(record, what="build record").get("models", {}).get(om.name, {})
    compiled = entry.get("made_from", {}).get("model_sha256")
    return compiled is None or compiled == sha256_file(model)


def lacking_for_npu() -> str:
    """Return what is missing here to run an .om on an NPU, a phrase, or nothing."""
    try:
        if not list_cards():
            return "npu-smi shows no NPU here"
        problems = probe_ais_bench().problems
    except UserError as error:
        return str(error).split(". ")[0]
    return f"ais_bench is not ready: {problems[0]}" if problems else ""
