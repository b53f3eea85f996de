"""Build a deployable model in one go: export, optimize, verify, and compile where ATC is installed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.model_options import ModelOptions
from export.modify_onnx import ModifyOnnxOptions, as_text, modify_onnx
from export.surgery.pass_types import Target
from export.to_om import ToOmOptions, to_om
from export.to_onnx import Opset, ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, check_passed, verify
from vidom.command import run
from vidom.errors import CheckFailedError
from vidom.folder_lock import locked_folder
from vidom.options import option, read_options
from vidom.parity import render

__all__ = ["BuildOptions", "build", "main"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildOptions(ModelOptions):
    """Export a checkpoint, optimize the graph, check its parity, and compile an .om where ATC is installed."""

    exported: Path = option("the ONNX model to export")
    optimized: Path = option("the ONNX model after surgery")
    om: Path = option("the .om, compiled only where atc is on PATH")
    batch_size: int = option("batch size of the model", "-bs", default=1)
    opset: Opset = option("version of the standard operators", default=11)
    target: Target | None = option(
        "what runs the graph: ascend310p or cpu (default: ascend310p where atc is on PATH, else cpu)",
        default=None,
    )
    soc_version: str | None = option(
        "target chip of the .om; without it, the one that npu-smi shows", default=None
    )


def build(options: BuildOptions) -> None:
    """Write the exported, the optimized and, where atc is on PATH, the offline model; print what each stage did.

    Models that are up to date are not built again. Raises CheckFailedError when a stage does not agree with the
    checkpoint's network, and what the stages raise.
    """
    has_atc = shutil.which("atc") is not None
    model = {key: getattr(options, key) for key in ("recipe", "checkpoint", "input_dtype", "ignore_meta")}
    to_onnx(
        ToOnnxOptions(**model, output=options.exported, batch_size=options.batch_size, opset=options.opset)
    )
    print(options.exported)
    _optimize(options, options.target or ("ascend310p" if has_atc else "cpu"))
    parities = verify(VerifyOptions(**model, model=(options.exported, options.optimized)))
    print(render(parities))
    check_passed(parities)
    if not has_atc:
        _log.info(
            "No .om was built: atc is not on PATH. `make doctor` reports what to install; `make om DRY_RUN=1` writes "
            "the command."
        )
        return
    if options.target == "cpu":
        _optimize(options, "ascend310p")
    om = ToOmOptions(
        model=options.optimized,
        output=options.om,
        batch_size=options.batch_size,
        soc_version=options.soc_version,
    )
    print(to_om(om))


def _optimize(options: BuildOptions, target: Target) -> None:
    done = modify_onnx(
        ModifyOnnxOptions(
            model=options.exported, output=options.optimized, batch_size=options.batch_size, target=target
        )
    )
    print(as_text(done))
    if not done.passed:
        raise CheckFailedError(
            f"The optimized graph differs from {options.exported} beyond tolerance; {options.optimized} was not "
            "written."
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and build the model."""
    options = read_options(BuildOptions, argv, prog="build.py")
    # The stages write to this folder one after the other; none of them must find another command in it.
    with locked_folder(options.optimized.parent):
        build(options)


if __name__ == "__main__":
    run(main)
