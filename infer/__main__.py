"""`python -m infer`: ais_bench's command, run by ais_bench on an NPU, by ONNX Runtime or by OpenVINO."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from infer.batches.reading import PURE_DATA_TYPES
from infer.engines.base import PRECISIONS
from infer.inference import infer
from infer.options import ENGINES
from infer.precision_check import DEFAULT_SAMPLES
from vidom.command import Parser, run
from vidom.errors import UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS

__all__ = ["main"]

_NPU_OPTIONS = (
    *("dymHW", "dym_hw", "dymDims", "dym_dims", "dymShape", "dym_shape", "dymShape_range", "dym_shape_range"),
    *("outputSize", "output_size", "auto_set_dymshape_mode", "auto_set_dymdims_mode"),
    *("profiler", "profiler_rename", "dump", "dump_npy", "acl_json_path", "aipp_config"),
    *("energy_consumption", "npu_id", "backend", "perf", "pipeline", "threads", "divide_input"),
)
_YES = ("yes", "true", "t", "y", "1")
_NO = ("no", "false", "f", "n", "0")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a model on input files or, without any, as a pure performance loop."""
    options = _parser().parse_args(argv)
    _refuse_npu_options(options)
    if options.input == "":
        raise UsageError("--input is empty; name folders or files, or leave it out for the performance loop.")
    infer(
        model=options.model,
        input=options.input,
        output=options.output,
        output_dirname=options.output_dirname,
        outfmt=options.outfmt,
        loop=options.loop,
        warmup_count=options.warmup_count,
        batchsize=options.batchsize,
        dym_batch=options.dymBatch or None,
        output_batchsize_axis=options.output_batchsize_axis,
        pure_data_type=options.pure_data_type,
        display_all_summary=options.display_all_summary,
        debug=options.debug,
        engine=options.engine,
        device=options.device,
        provider=options.provider,
        precision=options.precision,
        check=options.check,
        time_limit=options.time_limit,
        args=[sys.argv[0], *(sys.argv[1:] if argv is None else argv)],
    )


def _parser() -> Parser:
    parser = Parser(prog="python -m infer", description=main.__doc__ or "")
    add = parser.add_argument
    add("--model", "-m", required=True, help="the .onnx file, or for the NPU the .om")
    add(
        "--engine",
        default="auto",
        choices=ENGINES,
        help="auto: the NPU if it, ais_bench and the .om are here",
    )
    add("--input", "-i", help="comma list, one entry per model input: folders of .bin/.npy, or files")
    add("--output", "-o", help="folder for the results; without it nothing is written")
    add("--output_dirname", help="the run's folder in --output (default: the time)")
    add("--outfmt", default="BIN", choices=OUTPUT_FORMATS, help="format of the output files")
    add("--loop", "-l", type=int, default=1, help="times each batch is executed")
    add("--warmup_count", type=int, default=1, help="executions before the clock runs")
    add("--device", "-d", default="0", help="NPU number, or several as 0,1 to share out the files")
    add("--provider", help="ONNX Runtime's execution provider, e.g. CUDA; without it the CPU")
    add(
        "--precision",
        choices=PRECISIONS,
        help="of --engine openvino: f32 (default), or bf16 on processors that have it",
    )
    add(
        "--check",
        type=_samples,
        default=DEFAULT_SAMPLES,
        metavar="N|all",
        help="samples that a run in bf16 computes in f32 too, to tell what differs",
    )
    add("--time_limit", type=float, help="seconds after which ais_bench is stopped; none if not given")
    add("--batchsize", "--batch_size", type=int, help="batch in the throughput figure (default: the model's)")
    add(
        "--output_batchsize_axis",
        type=int,
        default=0,
        help="axis along which outputs are shared out to files",
    )
    add(
        "--run_mode",
        default="array",
        choices=("array", "files", "tensor", "full"),
        help="all give the same here",
    )
    add("--pure_data_type", default="zero", choices=PURE_DATA_TYPES, help="data where there is no --input")
    add("--dymBatch", "--dym_batch", type=int, default=0, help="size of a symbolic batch axis, 0 for none")
    add("--debug", type=_boolean, default=False, metavar="yes|no", help="say what the model takes and gives")
    add("--display_all_summary", type=_boolean, default=False, metavar="yes|no", help="H2D and D2H times too")
    for name in _NPU_OPTIONS:
        add(f"--{name}", nargs="?", const="", help=argparse.SUPPRESS)
    return parser


def _boolean(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(_YES + _NO)}, found {text!r}")
    return text.lower() in _YES


def _samples(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a number or all, found {text!r}")
    return int(text)


def _refuse_npu_options(options: argparse.Namespace) -> None:
    given = [f"--{name}" for name in _NPU_OPTIONS if getattr(options, name) is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} needs the NPU engine and is not passed on from here. Leave it out, or run ais_bench "
            "itself on the NPU: $AIS_PYTHON -m ais_bench …"
        )


if __name__ == "__main__":
    run(main)
