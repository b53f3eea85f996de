"""What each error code of ATC means and what to do next: a table.

Codes and wordings: Huawei's error_registry.cc for new releases, users' reports for older ones, whose texts
differ while the code says the same. Nothing here was tried on an NPU.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ADVICE", "UNCODED", "UNKNOWN", "Advice"]


@dataclass(frozen=True)
class Advice:
    """What to do about a code, or about those of its texts that `pattern` finds."""

    codes: tuple[str, ...]
    meaning: str
    todo: str
    pattern: str = ""


ADVICE: tuple[Advice, ...] = (
    Advice(
        ("E10001",),
        "A dimension of the input is free (-1) and no shape was given.",
        "Fix the batch with --batch_size, or declare --dynamic_batch_size 1,4,8 for a graph exported with "
        "--dynamic_batch.",
        r"\[?-1\]? .*(Inputs|input_shape)|-1.*shape",
    ),
    Advice(
        ("E10001",),
        "ATC does not find the libraries of the host it compiles for.",
        "Source CANN's set_env.sh in this shell, check that the toolkit of this processor is installed (not only the "
        "run-time package), and do not cross-compile without --host_env_cpu.",
        r"host_env_(os|cpu)",
    ),
    Advice(
        ("E10001",),
        "The option --auto_tune_mode no longer exists.",
        "Leave it out; tuning is done by the separate tool AOE, on the device.",
        r"Auto Tune|auto_tune",
    ),
    Advice(
        ("E10001",),
        "A value ends or begins with a blank, which ATC reads as part of it.",
        "Remove the blank; to_om never writes one, so look into the files that options name, or an edited commands.sh.",
        r"Value \[?\S+(\s+\]|\s{2,}for)",
    ),
    Advice(
        ("E10001",),
        "ATC does not accept the value of one of its options.",
        "Compare the option that the line names with `atc --help` of this release; older releases know fewer values.",
    ),
    Advice(
        ("E10002",),
        "--input_shape is not written as ATC reads it.",
        "It must be name:size,size,... with the name of the graph's input, as commands.sh has it.",
    ),
    Advice(
        ("E10016",),
        "A file of operator names mentions one that the graph does not have.",
        "Correct the name in the file given with --keep_dtype or --op_precision_mode; surgery may have renamed it.",
    ),
    Advice(
        ("E10041",),
        "The ONNX file could not be loaded.",
        "Check that it is whole and readable for this user: export/lint_onnx.py --model reads it in full.",
    ),
    Advice(
        ("E10054",),
        "A required option is empty.",
        "Name the option that the line mentions; to_om writes all of them, so an edited command is the likely cause.",
    ),
    Advice(
        ("E10055",),
        "This release of ATC does not support what was asked.",
        "Read the reason in the line; leave the option out or install a newer CANN.",
    ),
    Advice(
        ("E16005",),
        "The model has several opset domains, and ATC takes exactly one.",
        "Run export/modify_onnx.py, which drops unused domains; export with the TorchScript exporter (dynamo=False).",
    ),
    Advice(
        ("E16004",),
        "The file holds no graph.",
        "It is empty or cut short; export it again.",
    ),
    Advice(
        ("E13010", "E16002", "E19010", "EZ9010"),
        "The operator comes from the exporter that writes functions (pkg.onnxscript), which ATC has no parser for.",
        "Export with the TorchScript exporter (dynamo=False), opset 11 or 13.",
        r"pkg\.onnxscript",
    ),
    Advice(
        ("E13010", "E16002", "E19010", "EZ9010"),
        "ATC has no parser for an operator in this opset, mostly because the opset is too new for the release.",
        "Export with --opset 11 or 13; if the opset is in range, the operator itself is unsupported: "
        "export/lint_onnx.py --cann names it.",
    ),
    Advice(
        ("E10501", "EZ0501"),
        "The operator was parsed but this release does not define it.",
        "Check that ASCEND_OPP_PATH belongs to this CANN (source set_env.sh) and, from CANN 8.5 on, that the ops "
        "package of the chip is installed; otherwise rewrite the operator.",
    ),
    Advice(
        ("EZ3002", "EZ3003"),
        "No engine of this chip computes the operator with these types and shapes.",
        "Look at the type it names: cast int64 or float64 before it, or rewrite the operator with listed ones "
        "(export/lint_onnx.py). From CANN 8.5 on the ops package of the chip must be installed.",
    ),
    Advice(
        ("E40021",),
        "The kernel of an operator did not compile.",
        "If memory or processes ran out, set TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1 and run again; if "
        "one operator fails repeatedly, keep it in float32 with --keep_dtype, or update CANN.",
    ),
    Advice(
        ("E40002",),
        "ATC's operator compiler lacks a Python or a Python module.",
        "Leave any virtual environment, and install for the system's python3 what CANN's installation guide lists "
        "(numpy<2, decorator, sympy, cffi, pyyaml, attrs, psutil, protobuf, scipy, absl-py, cloudpickle).",
    ),
    Advice(
        ("E20002",),
        "ASCEND_OPP_PATH is not set or wrong.",
        "Source CANN's set_env.sh in this shell and run the command again.",
    ),
    Advice(
        ("EE1001",),
        "ATC does not know the chip.",
        "Give --soc_version as Ascend and the Name that `npu-smi info` shows, as in Ascend310P3; if the name is right, "
        "this CANN is older than the chip or its ops package is missing.",
        r"[Ss]oc",
    ),
    Advice(
        ("E19999", "E89999", "EZ9999", "EE9999"),
        "Two operands of an operator differ in type, int64 against int32, usually behind TopK or a shape.",
        "Cast one of them in the graph; export/lint_onnx.py points at int64 arithmetic.",
        r"dtype is not same|INT64",
    ),
    Advice(
        ("E19999", "E89999", "EZ9999", "EE9999"),
        "An inner error of CANN; the call chain below it in the log names the operator.",
        "Read the lines after it in atc.log and the newest file in ~/ascend/log/debug/plog; if an operator is named, "
        "rewrite it or keep it in float32 with --keep_dtype, otherwise try another CANN release.",
    ),
)
UNKNOWN = Advice(
    (),
    "vidom does not know this code.",
    "Read `Possible Cause` and `Solution` below it in atc.log, then the newest file in ~/ascend/log/debug/plog.",
)
UNCODED: tuple[tuple[str, str], ...] = (
    (
        r"BrokenPipe|Broken pipe|MemoryError|Cannot allocate memory|[Kk]illed",
        "Memory or compile processes of the host ran out, a known trouble of small ARM hosts. Set "
        "TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1, close other programs or add swap, and run again.",
    ),
    (
        r"error while loading shared libraries|cannot open shared object",
        "Libraries of CANN or of the driver are not found: source CANN's set_env.sh in this shell.",
    ),
    (r"ModuleNotFoundError|ImportError", next(entry.todo for entry in ADVICE if "E40002" in entry.codes)),
    (
        r"No space left on device",
        "The disk is full; free some space, ATC writes its kernels into the working folder.",
    ),
)
