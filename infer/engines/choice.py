"""Which engine runs a model on this machine, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from infer.engines.engine_options import AscendOptions, EngineOptions, TorchOptions
from infer.engines.engine_request import AutoOptions, EngineRequest, engine_options
from vidom.errors import UnavailableError, UsageError, UserError
from vidom.files import sha256_file
from vidom.formats.built_models import read_built
from vidom.formats.recipe import Recipe
from vidom.system.ais_bench_probe import probe_ais_bench
from vidom.system.npu import list_npus

__all__ = ["Choice", "choose_engine", "lacking_for_npu"]


@dataclass(frozen=True)
class Choice:
    """The engine's options, the model it is given, a checkpoint for torch, and the reason, a phrase."""

    options: EngineOptions
    model: Path
    reason: str


def choose_engine(model: Path | None, request: EngineRequest, recipe: Recipe | None = None) -> Choice:
    """Return the engine that runs the model: the one requested, or for AutoOptions the NPU if everything is available.

    AutoOptions with an .onnx take the .om of the same name next to it, unless that was built from a different .onnx.
    TorchOptions take no model, but the network of `recipe`. Raises UsageError for a model that the requested engine
    cannot run or that is missing, and for an option that does not belong to the chosen engine, UnavailableError for an
    .om without an NPU.
    """
    if isinstance(request, TorchOptions):
        return _network(model, request, recipe)
    if model is None:
        raise UsageError(
            "--model is missing: the .onnx file, or for the NPU the .om. Only --engine torch needs none."
        )
    if isinstance(request, AutoOptions):
        name, chosen, reason = _automatic(model)
        return Choice(engine_options(name, request.given), chosen, reason)
    offline = model.suffix.lower() == ".om"
    if isinstance(request, AscendOptions) and not offline:
        raise UsageError(
            f"--engine ascend runs offline models, and {model} is not one. Build the .om first (make om, or "
            "export/to_om.py), or use --engine onnxruntime."
        )
    if offline and not isinstance(request, AscendOptions):
        raise UsageError(
            f"{model} is an offline model, which --engine {request.name} cannot run. Give the .onnx file that it "
            "was built from, or --engine ascend."
        )
    return Choice(request, model, "as requested")


def _network(model: Path | None, request: TorchOptions, recipe: Recipe | None) -> Choice:
    if model is not None:
        raise UsageError(
            f"--engine torch runs the network of a checkpoint, not the model {model}. Leave --model out and give "
            "--checkpoint (make: CKPT=path), or choose a different --engine."
        )
    if recipe is None:
        raise UsageError("--engine torch builds the network of a recipe; name it with --recipe.")
    checkpoint = Path(request.checkpoint or recipe.checkpoint.file)
    return Choice(replace(request, recipe=recipe), checkpoint, "as requested")


def _automatic(model: Path) -> tuple[str, Path, str]:
    if model.suffix.lower() == ".om":
        return _offline(model)
    om = model.with_suffix(".om")
    if not om.is_file():
        return "onnxruntime", model, f"there is no {om.name} for an NPU next to the model"
    if not _built_from(om, model):
        return "onnxruntime", model, f"{om.name} was built from a different {model.name}"
    lacking = lacking_for_npu()
    if lacking:
        return "onnxruntime", model, lacking
    return "ascend", om, f"{om.name} is next to the model, and an NPU and ais_bench are available"


def _offline(model: Path) -> tuple[str, Path, str]:
    lacking = lacking_for_npu()
    if lacking:
        raise UnavailableError(
            f"{model} is an offline model, which only an Ascend NPU with ais_bench executes, and {lacking}. Run it "
            "on a machine that has both, or give the .onnx file that it was built from."
        )
    return "ascend", model, "the model is an .om, and an NPU and ais_bench are available"


def _built_from(om: Path, model: Path) -> bool:
    """Return whether the build record, if there is one, states that this very file was compiled."""
    entry = read_built(om.parent).get(om.name)
    if entry is None or not model.is_file():
        return True
    compiled = entry["made_from"].get("model_sha256")
    return compiled is None or compiled == sha256_file(model)


def lacking_for_npu() -> str:
    """Return what this machine lacks to run an .om on an NPU, a phrase, or nothing."""
    try:
        if not list_npus():
            return "npu-smi shows no NPU here"
        problems = probe_ais_bench().problems
    except UserError as error:
        return str(error).split(". ")[0]
    return f"ais_bench is not ready: {problems[0]}" if problems else ""
