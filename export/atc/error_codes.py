"""The error codes of ATC: their meaning, what to do next, and how to find them in ATC's output.

Codes and wordings: Huawei's error_registry.cc for new releases, users' reports for older ones, whose texts differ
while the codes mean the same. None of it was tried on an NPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ADVICE", "Advice", "AtcError", "explain", "find_errors"]

_LINE = re.compile(r"^(?P<code>E[A-Z]?\d{4,5}|W\d{5}):?\s+(?P<text>.*)$", re.MULTILINE)
# Some releases print the process id between code and text, some the time, some both.
_STAMPS = re.compile(r"^(?:\[PID:\s*\d+\]\s*|\d{4}-\d{2}-\d{2}-[\d:.]+\s*)+")
_LONGEST = 400
_MOST = 5


@dataclass(frozen=True)
class Advice:
    """The meaning of error codes and what to do, for all texts of a code or for those that match `pattern`."""

    codes: tuple[str, ...]
    meaning: str
    action: str
    pattern: str = ""


ADVICE: tuple[Advice, ...] = (
    Advice(
        ("E10001",),
        "A dimension of the input is symbolic (-1) and no shape was given.",
        "Set the batch with --batch_size, or declare --dynamic_batch_size 1,4,8 for a graph exported with "
        "--dynamic_batch.",
        r"\[?-1\]? .*(Inputs|input_shape)|-1.*shape",
    ),
    Advice(
        ("E10001",),
        "ATC cannot find the libraries of the target host.",
        "Source CANN's set_env.sh in this shell, check that the toolkit of this processor is installed (not only the "
        "run-time package), and do not cross-compile without --host_env_cpu.",
        r"host_env_(os|cpu)",
    ),
    Advice(
        ("E10001",),
        "The option --auto_tune_mode no longer exists.",
        "Remove it; tuning is done by the separate tool AOE, on the device.",
        r"Auto Tune|auto_tune",
    ),
    Advice(
        ("E10001",),
        "A value starts or ends with whitespace, which ATC reads as part of it.",
        "Remove the whitespace; to_om never writes any, so check the files named by options, or an edited commands.sh.",
        r"Value \[?\S+(\s+\]|\s{2,}for)",
    ),
    Advice(
        ("E10001",),
        "ATC does not accept the value of one of its options.",
        "Compare the option in the line with `atc --help` of this release; older releases support fewer values.",
    ),
    Advice(
        ("E10002",),
        "--input_shape has a wrong format.",
        "It must be name:size,size,... with the name of the graph's input, as in commands.sh.",
    ),
    Advice(
        ("E10016",),
        "A file of operator names contains one that is not in the graph.",
        "Correct the name in the file given with --keep_dtype or --op_precision_mode; surgery may have renamed it.",
    ),
    Advice(
        ("E10041",),
        "The ONNX file could not be loaded.",
        "Check that it is complete and readable for this user: export/lint_onnx.py --model reads all of it.",
    ),
    Advice(
        ("E10054",),
        "A required option is empty.",
        "Set the option in the line; to_om writes all of them, so an edited command is the likely cause.",
    ),
    Advice(
        ("E10055",),
        "This release of ATC does not support the request.",
        "Read the reason in the line; remove the option or install a newer CANN.",
    ),
    Advice(
        ("E16005",),
        "The model has several opset domains, and ATC accepts exactly one.",
        "Run export/modify_onnx.py, which drops unused domains; export with the TorchScript exporter (dynamo=False).",
    ),
    Advice(
        ("E16004",),
        "The file contains no graph.",
        "It is empty or truncated; export it again.",
    ),
    Advice(
        ("E13010", "E16002", "E19010", "EZ9010"),
        "The operator comes from the exporter that writes functions (pkg.onnxscript), for which ATC has no parser.",
        "Export with the TorchScript exporter (dynamo=False), opset 11 or 13.",
        r"pkg\.onnxscript",
    ),
    Advice(
        ("E13010", "E16002", "E19010", "EZ9010"),
        "ATC has no parser for an operator in this opset, usually because the opset is too new for the release.",
        "Export with --opset 11 or 13; if the opset is in range, the operator itself is unsupported: "
        "export/lint_onnx.py --cann reports it.",
    ),
    Advice(
        ("E10501", "EZ0501"),
        "The operator was parsed but this release does not define it.",
        "Check that ASCEND_OPP_PATH belongs to this CANN (source set_env.sh) and, from CANN 8.5 on, that the ops "
        "package of the chip is installed; otherwise rewrite the operator.",
    ),
    Advice(
        ("EZ3002", "EZ3003"),
        "No engine of this chip supports the operator with these types and shapes.",
        "Check the type in the line: cast int64 or float64 before it, or rewrite the operator with listed ones "
        "(export/lint_onnx.py). From CANN 8.5 on the ops package of the chip must be installed.",
    ),
    Advice(
        ("E40021",),
        "The kernel of an operator did not compile.",
        "If memory or processes ran out, set TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1 and rerun; if "
        "one operator fails repeatedly, keep it in float32 with --keep_dtype, or update CANN.",
    ),
    Advice(
        ("E40002",),
        "ATC's operator compiler misses Python or a Python module.",
        "Deactivate any virtual environment, and install for the system's python3 what CANN's installation guide lists "
        "(numpy<2, decorator, sympy, cffi, pyyaml, attrs, psutil, protobuf, scipy, absl-py, cloudpickle).",
    ),
    Advice(
        ("E20002",),
        "ASCEND_OPP_PATH is unset or wrong.",
        "Source CANN's set_env.sh in this shell and rerun the command.",
    ),
    Advice(
        ("EE1001",),
        "Unknown chip.",
        "Set --soc_version to Ascend and the Name that `npu-smi info` shows, as in Ascend310P3; if the name is right, "
        "this CANN is older than the chip or its ops package is missing.",
        r"[Ss]oc",
    ),
    Advice(
        ("E19999", "E89999", "EZ9999", "EE9999"),
        "Two operands of an operator differ in type, int64 and int32, usually after TopK or Shape.",
        "Cast one of them in the graph; export/lint_onnx.py reports int64 arithmetic.",
        r"dtype is not same|INT64",
    ),
    Advice(
        ("E19999", "E89999", "EZ9999", "EE9999"),
        "An internal error of CANN; the call chain below it in the log names the operator.",
        "Read the lines after it in atc.log and the newest file in ~/ascend/log/debug/plog; if they name an operator, "
        "rewrite it or keep it in float32 with --keep_dtype, otherwise try another CANN release.",
    ),
)
_UNKNOWN = Advice(
    (),
    "Unknown error code.",
    "Read `Possible Cause` and `Solution` below it in atc.log, then the newest file in ~/ascend/log/debug/plog.",
)
_WITHOUT_CODE: tuple[tuple[str, str], ...] = (
    (
        r"BrokenPipe|Broken pipe|MemoryError|Cannot allocate memory|[Kk]illed",
        "The host ran out of memory or processes, a known problem of small ARM hosts. Set "
        "TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1, close other programs or add swap, and rerun.",
    ),
    (
        r"error while loading shared libraries|cannot open shared object",
        "Libraries of CANN or of the driver were not found: source CANN's set_env.sh in this shell.",
    ),
    (r"ModuleNotFoundError|ImportError", next(entry.action for entry in ADVICE if "E40002" in entry.codes)),
    (
        r"No space left on device",
        "The disk is full; free some space. ATC writes its kernels into the working folder.",
    ),
)


@dataclass(frozen=True)
class AtcError:
    """A line with an error code in ATC's output, without process id and time."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def find_errors(output: str) -> tuple[AtcError, ...]:
    """Return the distinct errors with codes in ATC's output, in their order; warnings (W...) are left out."""
    found = (
        AtcError(line["code"], _STAMPS.sub("", line["text"]).strip()[:_LONGEST])
        for line in _LINE.finditer(output)
        if line["code"][0] == "E"
    )
    return tuple(dict.fromkeys(found))


def explain(output: str) -> tuple[str, ...]:
    """Return a paragraph for each error in ATC's output: the line, its meaning, what to do next.

    An internal error that only follows from others is left out, and so is everything after the first five. Output
    without codes is searched for known problems without a code; the result is empty where nothing is recognised.
    """
    errors = find_errors(output)
    plain = [error for error in errors if not error.code.endswith("9999")] or list(errors)
    if plain:
        return tuple(f"{error} {_advice(error)}" for error in plain[:_MOST])
    return tuple(text for pattern, text in _WITHOUT_CODE if re.search(pattern, output))


def _advice(error: AtcError) -> str:
    entries = (
        entry for entry in ADVICE if error.code in entry.codes and re.search(entry.pattern, error.text)
    )
    advice = next(entries, _UNKNOWN)
    return f"{advice.meaning} {advice.action}"
