"""`python -m infer`: ais_bench's command, run by ais_bench on an NPU, by ONNX Runtime, OpenVINO or torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from infer.inference import InferOptions, infer
from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.options import add_options, options_from

__all__ = ["main"]

_NPU_OPTIONS = (
    *("dymHW", "dym_hw", "dymDims", "dym_dims", "dymShape", "dym_shape", "dymShape_range", "dym_shape_range"),
    *("outputSize", "output_size", "auto_set_dymshape_mode", "auto_set_dymdims_mode"),
    *("profiler", "profiler_rename", "dump", "dump_npy", "acl_json_path", "aipp_config"),
    *("energy_consumption", "npu_id", "backend", "perf", "pipeline", "divide_input"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a model on input files or, without any, as a pure performance loop."""
    parser = Parser(prog="python -m infer", description=main.__doc__ or "")
    add_options(parser, InferOptions)
    for name in _NPU_OPTIONS:
        parser.add_argument(f"--{name}", nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    _refuse_npu_options(given)
    infer(options_from(InferOptions, given), args=[sys.argv[0], *(sys.argv[1:] if argv is None else argv)])


def _refuse_npu_options(given: dict[str, Any]) -> None:
    names = [f"--{name}" for name in _NPU_OPTIONS if name in given]
    if names:
        raise UsageError(
            f"{', '.join(names)} needs the NPU engine and is not passed on from here. Leave it out, or run ais_bench "
            "itself on the NPU: $AIS_PYTHON -m ais_bench …"
        )


if __name__ == "__main__":
    run(main)
