"""The files of MindSpore's flow on Ascend 310 (`run_infer_310.sh` of research/cv/stnet): names, labels, log.

preprocess_Result/data/stnet_data_bs1_{i}.bin   one sample, raw little-endian float32
preprocess_Result/label_ids.npy                 int32 [samples, 1], in the order of i
result_Files/stnet_data_bs1_{i}_0.bin           its logits, raw little-endian float32
acc.log                                         the accuracy, as postprocess.py prints it and as the guide shows it
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidom.errors import BadDataError
from vidom.files import write_bytes, write_text
from vidom.formats.npy import read_npy

__all__ = [
    "Accuracy",
    "accuracy_line",
    "eval_line",
    "input_name",
    "read_accuracy",
    "read_label_ids",
    "write_accuracy",
    "write_label_ids",
]

_LOGGED = re.compile(r"top1_correct=([0-9]{1,12}), *tot=([0-9]{1,12})")
_COUNTED = re.compile(r"success_num: +([0-9]{1,12})\.0\s+total_num: +([0-9]{1,12})\.0")
_MAX_LABEL_BYTES = 1 << 26


@dataclass(frozen=True)
class Accuracy:
    """How many of `total` samples had their label as the top class."""

    correct: int
    total: int


def input_name(index: int) -> str:
    """Return the name of the input file of sample `index`, counted from 0."""
    return f"stnet_data_bs1_{index}.bin"


def accuracy_line(accuracy: Accuracy) -> str:
    """Return the line that the guide shows for acc.log; the percentage is cut, not rounded, to two places."""
    hundredths = accuracy.correct * 10_000 // accuracy.total
    percent = f"{hundredths // 100}.{hundredths % 100:02d}"
    return f"after allreduce eval: top1_correct={accuracy.correct}, tot={accuracy.total}, acc={percent}%"


def eval_line(accuracy: Accuracy) -> str:
    """Return the line that the guide shows for eval.py, to four places; none of the original's programs prints it."""
    return f"accuracy:{{'acc':{round(accuracy.correct / accuracy.total, 4)}}}"


def write_accuracy(path: Path, accuracy: Accuracy) -> None:
    """Write an acc.log with the lines that postprocess.py really prints, and with the one that the guide shows."""
    printed = (
        f"success_num:  {accuracy.correct:.1f}",
        f"total_num:  {accuracy.total:.1f}",
        f"acc:  {accuracy.correct / accuracy.total}",
    )
    write_text(path, "\n".join((*printed, accuracy_line(accuracy), "")))


def read_accuracy(text: str) -> Accuracy:
    """Return the accuracy in an acc.log, of the guide's line or of what postprocess.py really prints.

    The latter is `success_num:  8.0` and `total_num:  12.0`, a line each. Of several the last counts. Raises
    BadDataError when there is none, or one of more correct samples than samples.
    """
    found = [match for form in (_LOGGED, _COUNTED) for match in form.finditer(text)]
    if not found:
        raise BadDataError(
            "The log holds no accuracy: expected a line with `top1_correct=..., tot=...`, or `success_num:` and "
            "`total_num:`. Give the acc.log of run_infer_310.sh."
        )
    last = max(found, key=lambda match: match.start())
    accuracy = Accuracy(correct=int(last[1]), total=int(last[2]))
    if not 0 <= accuracy.correct <= accuracy.total or not accuracy.total:
        raise BadDataError(
            f"The log reports {accuracy.correct} correct of {accuracy.total} samples, which cannot be."
        )
    return accuracy


def write_label_ids(path: Path, labels: Sequence[int]) -> None:
    """Write the labels to `path` as an int32 NumPy file [samples, 1], byte for byte as `np.save` does."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(labels, "<i4").reshape(-1, 1))
    write_bytes(path, stream.getvalue())


def read_label_ids(path: Path) -> tuple[int, ...]:
    """Return the labels of `label_ids.npy` in the order of the samples.

    Raises BadDataError when the file is absent, no NumPy file, cut short, or holds anything but int32 of [samples]
    or [samples, 1], none of them negative.
    """
    labels = read_npy(path, what="label file of the 310 flow", max_bytes=_MAX_LABEL_BYTES)
    if labels.dtype != np.dtype("<i4") or labels.shape not in {(labels.size,), (labels.size, 1)}:
        raise BadDataError(
            f"The labels {path} are {labels.dtype} of {labels.shape}; expected int32 [samples, 1], as preprocess.py "
            "saves them. It may be a different file."
        )
    if labels.size and labels.min() < 0:
        raise BadDataError(f"The labels {path} hold {labels.min()}; classes are counted from 0.")
    return tuple(labels.ravel().tolist())
