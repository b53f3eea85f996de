"""auto-optimizer, Huawei's optimizer for ONNX graphs, as an external process in its own environment.

Its package ait-surgeon needs onnx < 1.19 and numpy < 2 and is no longer maintained, so it cannot be installed into
vidom's own environment. `make auto-optimizer` creates `.venv-auto-optimizer` for it; AUTO_OPTIMIZER_PYTHON (or the
older SURGEON_PYTHON) names another interpreter that has it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.auto_optimizer.bridge import NO_AUTO_OPTIMIZER
from export.surgery.model_file import model_bytes, parse_model
from export.surgery.pass_types import Options
from export.surgery.passes.dead_node_elimination import dead_node_elimination
from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, ExternalToolError, UnavailableError
from vidom.system.external_run import Ended, Job, run_streamed

__all__ = ["Optimized", "find_auto_optimizer", "run_auto_optimizer"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_BRIDGE = Path(__file__).resolve().with_name("bridge.py")
_VARIABLES = ("AUTO_OPTIMIZER_PYTHON", "SURGEON_PYTHON")
_LINES_SHOWN = 3


@dataclass(frozen=True)
class Optimized:
    """The optimized graph, the rewrite rules that changed something, and the versions of the packages."""

    model: ir.Model
    applied: tuple[str, ...]
    versions: dict[str, str]


def find_auto_optimizer() -> Path:
    """Return the interpreter that should have auto-optimizer: AUTO_OPTIMIZER_PYTHON, else `.venv-auto-optimizer`'s.

    Raises UnavailableError when it does not exist.
    """
    variable = next((name for name in _VARIABLES if os.environ.get(name)), None)
    expected = (
        os.environ[variable] if variable else str(_REPOSITORY / ".venv-auto-optimizer" / "bin" / "python")
    )
    found = shutil.which(expected)
    if found:
        # Not resolved: the symbolic link is what makes a virtual environment.
        return Path(found).absolute()
    source = f"set by {variable}" if variable else "of auto-optimizer's own environment"
    raise UnavailableError(
        f"There is no {expected}, the interpreter {source}. Run `make auto-optimizer`, which creates "
        f".venv-auto-optimizer with Python 3.8 to 3.11, or set {_VARIABLES[0]} to an interpreter that has ait-surgeon."
    )


def run_auto_optimizer(
    model: ir.Model,
    *,
    rules: Sequence[str],
    interpreter: Path,
    log_file: Path,
    time_limit: float,
) -> Optimized:
    """Return the result of the rewrite rules on a copy of `model`; auto-optimizer's output is in `log_file`.

    Inputs, outputs, ir_version and opset are unchanged, unused nodes are removed; where no rule matches, the graph is
    a copy of the given one. Numerical equivalence is not checked here.

    Raises UnavailableError when `interpreter` has no auto-optimizer, ExternalToolError when it fails, reaches
    `time_limit` seconds, or does not return such a graph.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vidom-auto-optimizer-") as name:
        folder = Path(name)
        given, written, report = folder / "given.onnx", folder / "written.onnx", folder / "report.json"
        given.write_bytes(model_bytes(model))
        words = [str(interpreter), str(_BRIDGE), str(given), str(written), str(report), *rules]
        # Some rules leave files in the working folder.
        job = Job(words, log_file=log_file, folder=folder)
        (ended,) = run_streamed([job], on_output=_ignore, time_limit=time_limit, environ=_environment())
        _check_end(ended, interpreter, log_file)
        applied, versions = _read_report(report, rules, log_file)
        if not applied:
            return Optimized(model.clone(), (), versions)
        return Optimized(_read_model(written, model, log_file), applied, versions)


def _ignore(number: int, stream: str, text: str) -> None:
    """Keep a line of auto-optimizer out of our log: it reports every match that it rejects."""


def _environment() -> dict[str, str]:
    """Return the environment without variables that would lead the other Python to our packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Some rules iterate over sets of names; the result must be reproducible.
    return kept | {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"}


def _check_end(ended: Ended, interpreter: Path, log_file: Path) -> None:
    if ended.code == 0 and not ended.timed_out:
        return
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    last = " / ".join(lines[-_LINES_SHOWN:]) or "nothing"
    if ended.code == NO_AUTO_OPTIMIZER:
        raise UnavailableError(
            f"{interpreter} has no working auto-optimizer ({last}). Run `make auto-optimizer`, which installs "
            "ait-surgeon with compatible packages into .venv-auto-optimizer."
        )
    started = [line.removeprefix("applying ") for line in lines if line.startswith("applying ")]
    where = f" in {started[-1]}" if started else ""
    if ended.timed_out:
        how = f"reached the --time_limit{where} after {ended.seconds:.0f} s and was stopped"
    elif ended.code < 0:
        how = f"was killed{where} by signal {-ended.code}; signal 9 usually means out of memory"
    else:
        how = f"failed{where} with exit code {ended.code}"
    hint = (
        f" Exclude {started[-1]} by listing the others: --with auto-optimizer=NAME,NAME." if started else ""
    )
    raise ExternalToolError(f"auto-optimizer {how}. Its last output: {last}. Complete log: {log_file}.{hint}")


def _read_report(
    report: Path, rules: Sequence[str], log_file: Path
) -> tuple[tuple[str, ...], dict[str, str]]:
    try:
        facts: dict[str, Any] = read_json(report, what="report of auto-optimizer", max_bytes=1 << 16)
        applied = tuple(name for name in rules if name in facts["applied"])
        return applied, {str(package): str(number) for package, number in facts["versions"].items()}
    except (BadDataError, KeyError, TypeError, AttributeError):
        raise ExternalToolError(
            "auto-optimizer exited with code 0 but wrote no valid report, so its graph is not used. Complete log: "
            f"{log_file}. Remove .venv-auto-optimizer and run `make auto-optimizer` to reinstall it."
        ) from None


def _read_model(written: Path, given: ir.Model, log_file: Path) -> ir.Model:
    try:
        model = parse_model(written.read_bytes(), origin=written)
    except (OSError, BadDataError) as error:
        raise ExternalToolError(
            "auto-optimizer reported that it changed the graph, but its output cannot be used. Use fewer rules. "
            f"Complete log: {log_file}. Reading the graph failed: {error}"
        ) from None
    expected, found = _interface(given), _interface(model)
    for what, before in expected.items():
        if found[what] != before:
            raise ExternalToolError(
                f"auto-optimizer changed the graph's {what} from {before} to {found[what]}, which must stay unchanged. "
                f"Use fewer rules. Complete log: {log_file}."
            )
    # auto-optimizer drops the metadata, such as the normalisation that AIPP must apply.
    model.metadata_props.update(given.metadata_props)
    dead_node_elimination(model, Options())
    return model


def _interface(model: ir.Model) -> dict[str, str]:
    """Return what optimization must not change, each as a text."""
    weights = set(model.graph.initializers)
    inputs = [value for value in model.graph.inputs if value.name not in weights]
    return {
        "opset": str(model.opset_imports.get("")),
        "ir_version": str(model.ir_version),
        "inputs": ", ".join(map(_described, inputs)),
        "outputs": ", ".join(map(_described, model.graph.outputs)),
    }


def _described(value: ir.Value) -> str:
    return f"{value.name} {value.dtype}{value.shape}"
