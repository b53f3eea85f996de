"""Faults of single operators, each planted into a small graph; and the same graph without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lint_graphs import Array, found, names

from export.lint.linter import summary

FRAMES = "float[2,3,16,16] x"
CLIPS = "float[2,3,8,16,16] x"


def conv(attributes: str, *, frames: str = FRAMES) -> str:
    # The size of the output depends on the padding, so it is left open.
    dims = ",".join("abcdefg"[: frames.count(",") + 1])
    return f"g ({frames}) => (float[{dims}] y) {{ y = Conv<{attributes}>(x, w) }}"


def filters(*kernel: int) -> Array:
    return np.zeros((4, 3, *kernel), dtype=np.float32)


def test_a_clean_graph_has_no_findings(tmp_path: Path) -> None:
    findings = found(tmp_path, conv("kernel_shape = [3,3], pads = [1,1,1,1]"), weights=filters(3, 3))
    assert findings == ()
    assert summary(findings) == "0 errors, 0 warnings"


@pytest.mark.parametrize(
    ("frames", "kernel", "mode", "expected"),
    [
        (FRAMES, (3, 3), "SAME_UPPER", ["conv-padding"]),
        (FRAMES, (3, 3), "VALID", ["conv-padding"]),
        (FRAMES, (3, 3), "NOTSET", []),
        (CLIPS, (3, 3, 3), "SAME_UPPER", ["conv-padding"]),
        (CLIPS, (3, 3, 3), "SAME_LOWER", ["conv-padding"]),
        (CLIPS, (3, 3, 3), "VALID", []),
        (CLIPS, (3, 3, 3), "NOTSET", []),
    ],
)
def test_padding_of_convolutions(
    tmp_path: Path, frames: str, kernel: tuple[int, ...], mode: str, expected: list[str]
) -> None:
    text = conv(f'kernel_shape = {list(kernel)}, auto_pad = "{mode}"', frames=frames)
    findings = found(tmp_path, text, weights=filters(*kernel))
    assert [finding.rule for finding in findings] == expected
    assert all(finding.severity == "error" and mode in finding.text for finding in findings)


def test_a_convolution_without_a_window(tmp_path: Path) -> None:
    assert names(found(tmp_path, conv("group = 1"), weights=filters(3, 3))) == [("conv-window", "error")]


def test_a_convolution_in_four_dimensions(tmp_path: Path) -> None:
    text = conv("kernel_shape = [1,1,1,1]", frames="float[1,3,2,2,2,2] x")
    assert ("conv-rank", "error") in names(found(tmp_path, text, weights=filters(1, 1, 1, 1)))


def pool(operator: str, attributes: str, *, frames: str = FRAMES, rank: int = 4, results: str = "y") -> str:
    dims = ",".join("abcdefg"[:rank])
    outputs = ", ".join(
        f"{dtype}[{dims}] {name}"
        for name, dtype in zip(results.split(", "), ("float", "int64"), strict=False)
    )
    return f"g ({frames}) => ({outputs}) {{ {results} = {operator}<{attributes}>(x) }}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (pool("MaxPool", "kernel_shape = [2,2]"), []),
        (pool("MaxPool", "kernel_shape = [2,2]", results="y, i"), [("pool-indices", "error")]),
        (pool("MaxPool", "kernel_shape = [2,2], storage_order = 1"), [("pool-indices", "error")]),
        (pool("MaxPool", 'kernel_shape = [3,3], auto_pad = "SAME_LOWER"'), [("pool-padding", "error")]),
        (pool("MaxPool", 'kernel_shape = [3,3], auto_pad = "SAME_UPPER"'), []),
        (pool("MaxPool", "kernel_shape = [2,2], dilations = [2,2]"), [("pool-dilation", "error")]),
        (pool("MaxPool", "kernel_shape = [16,16]"), [("max-pool-size", "warning")]),
        (pool("MaxPool", "kernel_shape = [2,2], strides = [64,1]"), [("max-pool-size", "warning")]),
        (pool("MaxPool", "kernel_shape = [1,16,16]", frames=CLIPS, rank=5), []),
        (pool("MaxPool", "kernel_shape = [2,2,2], dilations = [2,2,2]", frames=CLIPS, rank=5), []),
        (
            pool("MaxPool", "kernel_shape = [1,1,1,1]", frames="float[1,3,2,2,2,2] x", rank=6),
            [("pool-rank", "error"), ("input-rank", "warning")],
        ),
        (pool("AveragePool", 'kernel_shape = [3,3], auto_pad = "SAME_LOWER"'), [("pool-padding", "error")]),
        (pool("AveragePool", 'kernel_shape = [3,3], auto_pad = "SAME_UPPER"'), []),
        (
            pool("AveragePool", 'kernel_shape = [3,3,3], auto_pad = "SAME_UPPER"', frames=CLIPS, rank=5),
            [("pool-padding", "error")],
        ),
        (pool("AveragePool", "kernel_shape = [16,16]"), [("average-pool-size", "warning")]),
        (
            pool("AveragePool", "kernel_shape = [8,8,8]", frames=CLIPS, rank=5),
            [("average-pool-size", "warning")],
        ),
    ],
)
def test_poolings(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    assert names(found(tmp_path, text)) == expected


def test_reduce_mean_that_may_do_nothing(tmp_path: Path) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = ReduceMean<noop_with_empty_axes = 1>(x) }"
    assert ("reduce-noop", "error") in names(found(tmp_path, text, opset=18, cann="8.0"))


def test_the_axes_of_reduce_mean(tmp_path: Path) -> None:
    as_input = """g (float[2,3] x) => (float[2] y) <int64[1] a = {1}> {
      y = ReduceMean<keepdims = 0>(x, a) }"""
    assert names(found(tmp_path, as_input, opset=18, cann="8.0")) == [("reduce-axes", "error")]
    as_attribute = "g (float[2,3] x) => (float[2] y) { y = ReduceMean<axes = [1], keepdims = 0>(x) }"
    assert found(tmp_path, as_attribute) == ()


def test_pad_modes_and_axes(tmp_path: Path) -> None:
    text = """g (float[2,3] x) => (float[2,4] y) <int64[4] p = {{0, 1, 0, 0}}> {{ y = Pad<mode = "{mode}">(x, p) }}"""
    assert found(tmp_path, text.format(mode="reflect")) == ()
    assert names(found(tmp_path, text.format(mode="edge"))) == [("pad-mode", "warning")]
    chosen = """g (float[2,3] x) => (float[2,4] y) <int64[2] p = {1, 0}, float v = {0}, int64[1] a = {1}> {
      y = Pad(x, p, v, a) }"""
    assert names(found(tmp_path, chosen, opset=18, cann="8.0")) == [("pad-axes", "error")]


def test_a_chain_of_slices(tmp_path: Path) -> None:
    text = """g (float[2,4,4] x) => (float[2,3,3] y) <int64[1] one = {1}, int64[1] four = {4}, int64[1] two = {2}> {
      a = Slice(x, one, four, one)
      y = Slice(a, one, four, two) }"""
    assert names(found(tmp_path, text)) == [("slice-chain", "warning")]


def test_errors_come_first(tmp_path: Path) -> None:
    findings = found(tmp_path, pool("MaxPool", "kernel_shape = [16,16]", results="y, i"))
    assert [finding.severity for finding in findings] == ["error", "warning"]
    assert summary(findings) == "1 errors, 1 warnings"
