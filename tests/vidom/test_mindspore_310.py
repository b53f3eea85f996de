"""The files of MindSpore's flow on Ascend 310: names, labels and the accuracy's line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidom.errors import BadDataError
from vidom.formats.mindspore_310 import (
    Accuracy,
    accuracy_line,
    eval_line,
    input_name,
    read_accuracy,
    read_label_ids,
    write_accuracy,
    write_label_ids,
)

SEED_LINE = "after allreduce eval: top1_correct=9252, tot=10000, acc=92.52%"
MASTER_LINE = "after allreduce eval: top1_correct=12920, tot=18644, acc=69.29%"
REAL_LOG = "{}\nsuccess_num:  8.0\ntotal_num:  12.0\nacc:  0.6666666666666666\n"


def test_inputs_are_named_as_in_the_guide() -> None:
    assert input_name(0) == "stnet_data_bs1_0.bin"


@pytest.mark.parametrize(
    ("accuracy", "line"), [(Accuracy(9252, 10000), SEED_LINE), (Accuracy(12920, 18644), MASTER_LINE)]
)
def test_the_documented_lines_are_written_and_read(accuracy: Accuracy, line: str) -> None:
    assert accuracy_line(accuracy) == line
    assert read_accuracy(f"{{}}\n{line}\n") == accuracy


@pytest.mark.parametrize(
    ("correct", "percent"), [(0, "0.00"), (1, "0.05"), (1999, "99.95"), (2000, "100.00")]
)
def test_percentages_are_cut_to_two_places(correct: int, percent: str) -> None:
    assert accuracy_line(Accuracy(correct, 2000)).endswith(f"acc={percent}%")


def test_the_line_of_eval_py_is_the_guide_s() -> None:
    assert eval_line(Accuracy(69, 100)) == "accuracy:{'acc':0.69}"
    assert eval_line(Accuracy(2, 3)) == "accuracy:{'acc':0.6667}"


def test_what_postprocess_really_prints_is_read() -> None:
    assert read_accuracy(REAL_LOG) == Accuracy(8, 12)


def test_a_written_log_has_the_lines_of_the_program_and_of_the_guide(tmp_path: Path) -> None:
    write_accuracy(tmp_path / "acc.log", Accuracy(8, 12))
    line = "after allreduce eval: top1_correct=8, tot=12, acc=66.66%\n"
    assert (tmp_path / "acc.log").read_text() == REAL_LOG.removeprefix("{}\n") + line
    assert read_accuracy((tmp_path / "acc.log").read_text()) == Accuracy(8, 12)


def test_the_last_accuracy_of_a_log_counts() -> None:
    assert read_accuracy(f"{SEED_LINE}\n{REAL_LOG}") == Accuracy(8, 12)
    assert read_accuracy(f"{REAL_LOG}{SEED_LINE}") == Accuracy(9252, 10000)


@pytest.mark.parametrize(
    "text", ["", "acc=69.29%", "top1_correct=3, tot=2", "top1_correct=0, tot=0", "top1_correct=" + "9" * 5000]
)
def test_logs_without_a_possible_accuracy_are_refused(text: str) -> None:
    with pytest.raises(BadDataError):
        read_accuracy(text)


@pytest.mark.parametrize("labels", [[], [7], list(range(400))])
def test_labels_are_numpys_own_file(tmp_path: Path, labels: list[int]) -> None:
    write_label_ids(tmp_path / "label_ids.npy", labels)
    expected = np.array(labels, np.int32).reshape(-1, 1)
    found = np.load(tmp_path / "label_ids.npy")
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert read_label_ids(tmp_path / "label_ids.npy") == tuple(labels)


def test_labels_in_one_dimension_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "label_ids.npy", np.arange(5, dtype=np.int32))
    assert read_label_ids(tmp_path / "label_ids.npy") == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 1), np.int64), np.zeros((3, 2), np.int32), np.zeros(3, np.float32)]
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "label_ids.npy", array)
    with pytest.raises(BadDataError, match="expected int32"):
        read_label_ids(tmp_path / "label_ids.npy")


def with_header(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        with_header(b"(" * 5000),
        with_header(b"'''"),
        with_header(b"{'descr': '<i4', 'fortran_order': False, 'shape': (99999999, 1), }\n"),
        with_header(b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 1), }\n"),
        with_header(b"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1), }\n"),
        with_header(b"{'descr': '<i4', 'fortran_order': False, 'shape': (4, 1), }\n"),
    ],
)
def test_damaged_labels_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "label_ids.npy").write_bytes(content)
    with pytest.raises(BadDataError, match=r"label_ids\.npy"):
        read_label_ids(tmp_path / "label_ids.npy")


def test_absent_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="does not exist"):
        read_label_ids(tmp_path / "label_ids.npy")
