"""Why a run of ais_bench failed, in one paragraph, from what it printed.

The texts are those of ais_bench 0.0.2 and aclruntime 0.0.2 (0.1.0 differs in capitals), the codes ACL's (aclError).
Each rule comes from a recorded failure or a public report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vidom.system.external_run import Ended

__all__ = ["ended_how", "explain", "first_failure"]

# In the order in which they are tried: a cause comes before its consequences.
_RULES: tuple[tuple[str, str], ...] = (
    (
        r"UnboundLocalError.*aclruntime_version|can't find aclruntime",
        "ais_bench found no version of aclruntime: either aclruntime is not installed in its Python, or setuptools is "
        "82 or newer there, which no longer has the pkg_resources that this ais_bench uses. `make doctor` prints the "
        'command: installing aclruntime, or "setuptools<82".',
    ),
    (
        r"No module named '?(?P<name>ais_bench|aclruntime)",
        "This Python has no {name}. Install its wheel there, or in a separate environment that AIS_PYTHON=…/bin/python "
        "names (`make doctor` prints the command).",
    ),
    (
        r"(?P<name>libascendcl|lib\w*acl\w*|libge\w*|libruntime)\.so[.\d]*: cannot open shared object file",
        "The library {name}.so of CANN was not found: this shell has not sourced CANN's set_env.sh. Source it and run "
        "the same command again.",
    ),
    (
        r"500002|load model from file failed|LoadModelFromFile failed",
        "The model could not be loaded (ACL error 500002, if printed). An .om runs only on the chip it was "
        "compiled for and on a CANN not older than the one that compiled it: compare its --soc_version with "
        "`npu-smi info` and both CANN versions (`make doctor`), and compile it again here (make om).",
    ),
    (
        r"open device (?P<name>\d+) failed|aclrtSetDevice.*failed|507033|507899",
        "Device {name} could not be opened. Check with `npu-smi info` whether it is present and healthy and which "
        "process uses it, check that this user is in the group that owns /dev/davinci* (HwHiAiUser), and give --device "
        "the number in the column Device.",
    ),
    (
        r"207001|memory alloc\w* fail|malloc.*fail",
        "The device has too little free memory for the model and its batch. Stop other processes on it "
        "(`npu-smi info`), or compile a smaller batch.",
    ),
    (
        r"dynamic_batch_size parameter is not specified",
        "--dymBatch is for an .om that was compiled for several batches (--dynamic_batch_size); this one has a fixed "
        "batch. Leave the option out.",
    ),
    (
        r"tensorsize: (?P<tensor>\d+) filesize: (?P<file>\d+) not match",
        "The input files have {file} bytes, the model's input {tensor}: a file must be one sample of the model, or "
        "several that form a batch. Recipe, dtype or --batch_size they were packed with differ from those the model "
        "was built for.",
    ),
    (
        r"in size:(?P<file>\d+) needsize:(?P<tensor>\d+) not match",
        "One of the input files is larger or smaller than the first ({file} bytes where {tensor} were needed); "
        "ais_bench had checked the first only. Pack the data set again.",
    ),
    (
        r"save out files error array shape:(?P<shape>\([\d, ]*\))",
        "The output, of shape {shape}, could not be split into the files of a batch. Either the files have a smaller "
        "dtype than the model takes, so that several were taken for one sample, or --output_batchsize_axis is not the "
        "batch axis.",
    ),
    (
        r"path ?:(?P<path>\S+) is a soft link",
        "{path} is a symbolic link, which ais_bench does not follow. Give the path of its target.",
    ),
    (
        r"isn't path:(?P<path>.+?)'s owner",
        "{path} belongs to a user and group other than those that run ais_bench, root included. Change its owner "
        "(chown), or run as the owner.",
    ),
    (
        r"The file (?P<path>\S+) is group writable, or is others writable, as (?P<kind>import|export)",
        "{path} may be written by the group or others (or, for a folder of results, read by others), which ais_bench "
        "refuses. Run `chmod -R go-w` on inputs, `chmod 750` on the folder of results, and umask 027 before creating "
        "new ones.",
    ),
    (
        r"path:(?P<path>.+?) contains illegal char",
        "{path} contains characters other than A-Z a-z 0-9 _ - / . ; rename it, or give a relative path.",
    ),
    (
        r"argument (?P<option>--[\w-]+)\S*: \w+ path:(?P<path>\S+) is illegal",
        "ais_bench refused the path {path} of {option}: it is missing, of the wrong kind, or not readable.",
    ),
    (
        r"error: argument (?P<option>--[\w-]+)\S*: (?P<text>.+)",
        "ais_bench refused the value of {option}: {text}.",
    ),
    (
        r"unrecognized arguments: (?P<name>.+)",
        "This version of ais_bench does not know {name}. Install a current one (`make doctor` shows the installed "
        "one).",
    ),
    (
        r"No space left on device",
        "The disk is full. Free some space, or give a different --output, and run the same command again.",
    ),
    (
        r"RuntimeError: \[(?P<code>-?\d+)\]\[ACL: (?P<text>[^\]]+)\]",
        "ACL reported error {code} ({text}) while the model ran. For details see the device log: "
        "$HOME/ascend/log/debug/plog, the newest file.",
    ),
)
_LAST_WORDS = 300


def explain(output: str) -> str:
    """Return the paragraph of the first rule that matches what ais_bench printed, else the end of its output."""
    for pattern, text in _RULES:
        if found := re.search(pattern, output, re.IGNORECASE):
            return text.format(**{key: value or "" for key, value in found.groupdict().items()})
    errors = re.findall(r"\[ERROR\][^\n]*", output)
    words = " ".join("; ".join(errors).split() or output.split())
    words = "".join(character for character in words if character.isprintable())
    return f"Its last output was: {words[-_LAST_WORDS:] or '(it printed nothing)'}."


def ended_how(ended: Ended) -> str:
    """Return how the process ended, a predicate for a sentence."""
    if ended.timed_out:
        return f"had not ended after {ended.seconds:.0f} s, the --time_limit, and was stopped with its child processes"
    if ended.stopped:
        return "was stopped because the run on a different device failed"
    if ended.code < 0:
        reason = " (probably out of memory)" if ended.code == -9 else ""
        return f"was killed by signal {-ended.code} after {ended.seconds:.0f} s{reason}"
    return f"ended with code {ended.code} after {ended.seconds:.0f} s"


def first_failure(ended: Sequence[Ended]) -> int | None:
    """Return the index of the job that failed by itself, else of any that did not succeed; None if all did."""
    own = [number for number, one in enumerate(ended) if one.code and not one.stopped]
    others = [number for number, one in enumerate(ended) if one.code or one.timed_out]
    return next(iter(own + others), None)
