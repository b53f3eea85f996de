"""auto-optimizer, Huawei's surgeon for ONNX graphs, as an outside process in an environment of its own.

Its package ait-surgeon needs onnx < 1.19 and numpy < 2 and was given up by its authors, so vidom's own environment
cannot hold it. `make surgeon` makes `.venv-surgeon` for it; SURGEON_PYTHON names another interpreter that has it.
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

from export.auto_optimizer.bridge import LACKS_AUTO_OPTIMIZER
from export.surgery.model_file import model_bytes, parse_model
from export.surgery.pass_types import Options
from export.surgery.passes.dead_nodes import eliminate_dead
from vidom.errors import BadDataError, ExternalToolError, UnavailableError
from vidom.files import read_json
from vidom.system.external_run import Ended, Job, run_streamed

__all__ = ["Operation", "find_surgeon", "operate"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_BRIDGE = Path(__file__).resolve().with_name("bridge.py")
_MENTIONED_LINES = 3


@dataclass(frozen=True)
class Operation:
    """The graph as auto-optimizer left it, the knowledges that changed something, and the packages' versions."""

    model: ir.Model
    applied: tuple[str, ...]
    versions: dict[str, str]


def find_surgeon() -> Path:
    """Return the interpreter that should have auto-optimizer: SURGEON_PYTHON, else that of `.venv-surgeon`.

    Raises UnavailableError when there is none.
    """
    named = os.environ.get("SURGEON_PYTHON")
    wanted = named or str(_REPOSITORY / ".venv-surgeon" / "bin" / "python")
    found = shutil.which(wanted)
    if found:
        # Not resolved: the link in a virtual environment is what makes it one.
        return Path(found).absolute()
    whose = "that SURGEON_PYTHON names" if named else "of auto-optimizer's own environment"
    raise UnavailableError(
        f"There is no {wanted}, the interpreter {whose}. Type `make surgeon`, which makes .venv-surgeon with a Python "
        "3.8 to 3.11, or let SURGEON_PYTHON name an interpreter that has ait-surgeon."
    )


def operate(
    model: ir.Model,
    *,
    knowledges: Sequence[str],
    interpreter: Path,
    log_file: Path,
    time_limit: float,
) -> Operation:
    """Return `model`, which stays as it is, after the knowledges; all that auto-optimizer printed is in `log_file`.

    Inputs, outputs, ir_version and opset are as they were, what is left unused is removed; where no knowledge
    fits, the graph is the one given. Whether it still means the same is not judged here.

    Raises UnavailableError when `interpreter` has no auto-optimizer, ExternalToolError when it fails, has not ended after
    `time_limit` seconds, or gives back something else than such a graph.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vidom-surgeon-") as name:
        folder = Path(name)
        given, written, report = folder / "given.onnx", folder / "written.onnx", folder / "report.json"
        given.write_bytes(model_bytes(model))
        words = [str(interpreter), str(_BRIDGE), str(given), str(written), str(report), *knowledges]
        # Some knowledges leave files in the working folder.
        job = Job(words, log_file=log_file, folder=folder)
        (ended,) = run_streamed([job], tell=_nothing, time_limit=time_limit, environ=_environment())
        _check_end(ended, interpreter, log_file)
        applied, versions = _read_report(report, knowledges, log_file)
        if not applied:
            return Operation(model.clone(), (), versions)
        return Operation(_read_model(written, model, log_file), applied, versions)


def _nothing(number: int, stream: str, text: str) -> None:
    """What auto-optimizer prints goes to its log alone: it speaks of every match that it does not make."""


def _environment() -> dict[str, str]:
    """Return the environment without what would lead the other Python to our packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Some knowledges walk sets of names; the same graph must come out the same every time.
    return kept | {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"}


def _check_end(ended: Ended, interpreter: Path, log_file: Path) -> None:
    if ended.code == 0 and not ended.timed_out:
        return
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    last = " / ".join(lines[-_MENTIONED_LINES:]) or "nothing"
    if ended.code == LACKS_AUTO_OPTIMIZER:
        raise UnavailableError(
            f"{interpreter} has no working auto-optimizer ({last}). Type `make surgeon`, which installs ait-surgeon "
            "with the packages that it works with into .venv-surgeon."
        )
    begun = [line.removeprefix("applying ") for line in lines if line.startswith("applying ")]
    where = f" in {begun[-1]}" if begun else ""
    if ended.timed_out:
        how = f"had not ended{where} after {ended.seconds:.0f} s, the --time_limit, and was stopped"
    elif ended.code < 0:
        how = f"was ended{where} by signal {-ended.code}; signal 9 mostly means that there was no memory left"
    else:
        how = f"failed{where} with code {ended.code}"
    hint = f" Leave {begun[-1]} out by naming the others: --with auto-optimizer=NAME,NAME." if begun else ""
    raise ExternalToolError(f"auto-optimizer {how}. It last said: {last}. All of it is in {log_file}.{hint}")


def _read_report(
    report: Path, knowledges: Sequence[str], log_file: Path
) -> tuple[tuple[str, ...], dict[str, str]]:
    try:
        told: dict[str, Any] = read_json(report, what="report of auto-optimizer", max_bytes=1 << 16)
        applied = tuple(name for name in knowledges if name in told["applied"])
        return applied, {str(package): str(number) for package, number in told["versions"].items()}
    except (BadDataError, KeyError, TypeError, AttributeError):
        raise ExternalToolError(
            "auto-optimizer ended with code 0 but left no report of what it did, so its graph is not used. All that "
            f"it printed is in {log_file}; `make surgeon` after removing .venv-surgeon installs it anew."
        ) from None


def _read_model(written: Path, given: ir.Model, log_file: Path) -> ir.Model:
    try:
        model = parse_model(written.read_bytes(), origin=written)
    except (OSError, BadDataError) as error:
        raise ExternalToolError(
            f"auto-optimizer said that it changed the graph, but what it wrote cannot be used. Name fewer knowledges; "
            f"all that it printed is in {log_file}. Reading its graph gave: {error}"
        ) from None
    expected, found = _frame(given), _frame(model)
    for what, before in expected.items():
        if found[what] != before:
            raise ExternalToolError(
                f"auto-optimizer changed the graph's {what} from {before} to {found[what]}, which surgery must leave "
                f"alone. Name fewer knowledges; all that it printed is in {log_file}."
            )
    # auto-optimizer drops what the file says besides its graph, such as how AIPP must normalise.
    model.metadata_props.update(given.metadata_props)
    eliminate_dead(model, Options())
    return model


def _frame(model: ir.Model) -> dict[str, str]:
    """Return what surgery must leave alone, each as a text."""
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
