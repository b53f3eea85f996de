"""The residual stream in two: which channels travel apart, and that nothing else changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from shifted_networks import exported
from surgery_graphs import assert_equivalent, noise, ops, run

from export.surgery.channel_streams import find_shifted_convs
from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from export.surgery.shapes import resolved
from vidom.errors import UsageError

pytestmark = pytest.mark.slow


def for_cpu(model: ir.Model, batch: int) -> ir.Model:
    return run_passes(model, batch_size=batch, target="cpu").model


def assert_equal(original: ir.Model, modified: ir.Model) -> None:
    assert_equivalent(original, modified, rounds=1, relative=2e-5)


@pytest.mark.parametrize(
    ("arch", "segments", "clips", "batch"),
    [("tsm", 8, 6, 1), ("pptsm", 8, 1, 3)],
)
def test_bottlenecks(arch: str, segments: int, clips: int, batch: int) -> None:
    original = exported(arch, segments=segments, clips=clips, width=32)
    modified = for_cpu(original, batch)
    assert_equal(original, modified)
    counts = Counter(ops(modified))
    # One product moves both parts of a shift. Only of the stem's channels, too few for halves, some are cut out.
    assert counts["MatMul"] == 16
    assert counts["Slice"] == 1
    assert (counts["Pad"], counts["Transpose"]) == (0, 0)
    assert counts["Concat"] == 1
    assert model_bytes(for_cpu(modified, batch)) == model_bytes(modified)


def test_basic_blocks_have_their_stem_split_too() -> None:
    original = exported("tsm", depth=10, width=128, segments=3)
    modified = for_cpu(original, 4)
    assert_equal(original, modified)
    assert Counter(ops(modified))["MaxPool"] == 2
    assert "Slice" not in ops(modified)


def test_blocks_without_a_shift_read_both_halves() -> None:
    original = exported("tsm", depth=101, width=16, segments=3)
    modified = for_cpu(original, 1)
    assert_equal(original, modified)
    # Blocks 1, 3, 5... of 3, 4, 23 and 3.
    assert Counter(ops(modified))["MatMul"] == 2 + 2 + 12 + 2


def test_channels_that_do_not_fill_blocks_are_cut_from_the_unsplit_stream() -> None:
    original = exported("tsm", depth=50, width=8, segments=3)
    modified = for_cpu(original, 2)
    assert_equal(original, modified)
    counts = Counter(ops(modified))
    # Up to the third stage's first block, the eighth, a quarter of the channels is less than 32: 2 of the stem's, then
    # three times 8, which are cut out, then four times 16, a block, which a convolution picks.
    picks = [node for node in modified.graph if node.op_type == "Conv" and "_cut" in str(node.inputs[1].name)]
    assert (counts["MatMul"], counts["Slice"], len(picks)) == (16, 4, 4)


def test_parts_of_two_sizes_are_moved_in_small_pieces_or_stay() -> None:
    original = exported("pptsm", segments=6, clips=3)
    modified = for_cpu(original, 1)
    assert_equal(original, modified)
    # Of 64 channels 10 and 11 move, of 256 channels 42 and 43: one by one too many rows for a matrix. Elsewhere it is
    # 2 and 3 (stem), twice 21 (four blocks) and twice 85 (two).
    assert Counter(ops(modified))["MatMul"] == 1 + 4 + 2


def test_the_matrix_moves_rows_within_a_clip_only() -> None:
    model = run_passes(
        exported("tsm", depth=10, width=128, segments=3),
        passes=[
            "set-batch",
            "fold-constants",
            "common-subexpression-elimination",
            "concat-zeros-to-pad",
            "merge-slices",
        ],
    ).model
    matrix = find_shifted_convs(model, resolved(model))[0].matrix()
    rows = np.array([[11.0, 12.0], [21.0, 22.0], [31.0, 32.0]])
    # The first part comes from the next frame, the second from the one before.
    wanted = np.array([[21.0, 0.0], [31.0, 12.0], [0.0, 22.0]])
    np.testing.assert_array_equal((matrix @ rows.reshape(-1)).reshape(3, 2), wanted)


def test_a_stream_that_is_an_output_is_not_split() -> None:
    model = exported("tsm", depth=10, width=128, segments=3).clone()
    stream = [node for node in model.graph if node.op_type == "Relu"][-1].outputs[0]
    model.graph.outputs.append(stream)
    modified = run_passes(model, batch_size=1, target="cpu", average_clips="keep").model
    sample = noise(1, 3, 3, 32, 32)
    assert "MatMul" in ops(modified)
    for expected, found in zip(run(model, sample), run(modified, sample), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_npu_target_is_rejected() -> None:
    with pytest.raises(UsageError, match="split-shift supports cpu"):
        run_passes(exported("tsm", depth=10), passes=["split-shift"])
