"""Each pass on small graphs: what it rewrites, what it leaves, and that the numbers stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_graphs import END, assert_same, graph, integers, noise, ops, run, shift_graph, slices_of_slices

from export.surgery.run import run_passes
from export.surgery.values import constant
from vidom.errors import BadDataError, UsageError


def after(model: ir.Model, *passes: str, **options: object) -> ir.Model:
    return run_passes(model, passes=passes, **options).model  # type: ignore[arg-type]


# fold-constants


def test_shape_arithmetic_is_computed_beforehand() -> None:
    model = graph(
        """
        clutter (float[2,6,4] x) => (float[a,b] y) {
          shape = Shape(x)
          channels = Gather(shape, one)
          half = Div(channels, two)
          whole = Cast<to = 7>(half)
          rows = Unsqueeze<axes = [0]>(whole)
          target = Concat<axis = 0>(rows, rest)
          y = Reshape(x, target)
        }""",
        one=np.array(1, dtype=np.int64),
        two=np.array(2, dtype=np.int64),
        rest=integers(-1),
    )
    folded = after(model, "fold-constants")
    assert ops(folded) == ["Reshape"]
    assert_same(model, folded, 2, 6, 4)


def test_weights_listed_as_inputs_are_weights_only() -> None:
    model = graph("g (float[2,3] x, float[3] w) => (float[2,3] y) { y = Add(x, w) }", w=noise(3))
    folded = after(model, "fold-constants")
    assert [value.name for value in folded.graph.inputs] == ["x"]
    assert_same(model, folded, 2, 3)


def test_a_constant_larger_than_any_file_is_left_to_run_time() -> None:
    model = graph(
        "g (float[1] x) => (float[a,b,c] y) { huge = ConstantOfShape(dims) y = Add(x, huge) }",
        dims=integers(1 << 20, 1 << 20, 1 << 10),
    )
    assert "ConstantOfShape" in ops(after(model, "fold-constants"))


def test_what_depends_on_a_symbolic_batch_stays() -> None:
    model = graph(
        "g (float[n,6] x) => (float[a,b] y) { shape = Shape(x) y = Reshape(x, shape) }",
    )
    assert_same(model, after(model, "fold-constants"), 3, 6)


# common-subexpression-elimination


def test_equal_nodes_and_equal_weights_become_one() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,3] y) { a = Add(x, v) b = Add(x, w) c = Relu(a) d = Relu(b) y = Mul(c, d) }",
        v=noise(3),
        w=noise(3),
    )
    shared = after(model, "common-subexpression-elimination")
    assert ops(shared) == ["Add", "Relu", "Mul"]
    assert list(shared.graph.initializers) == ["v"]
    assert_same(model, shared, 2, 3)


# constant-fold-zeros, concat-zeros-to-pad


def test_a_difference_of_one_value_with_itself_is_a_constant() -> None:
    model = graph("g (float[2,3] x) => (float[2,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    blanked = after(model, "constant-fold-zeros")
    assert ops(blanked) == ["Concat"]
    (block,) = blanked.graph.initializers.values()
    np.testing.assert_array_equal(constant(block), np.zeros((2, 3), dtype=np.float32))
    assert_same(model, blanked, 2, 3)


def test_operands_computed_twice_alike_are_one_value() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,6] y) { a = Relu(x) b = Relu(x) z = Sub(a, b) y = Concat<axis = 1>(x, z) }"
    )
    assert "Sub" in ops(after(model, "constant-fold-zeros"))
    blanked = after(model, "common-subexpression-elimination", "constant-fold-zeros")
    assert ops(blanked) == ["Concat"]
    assert_same(model, blanked, 2, 3)


def test_a_true_difference_stays() -> None:
    model = graph("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Sub(x, a) }")
    assert ops(after(model, "constant-fold-zeros", "concat-zeros-to-pad")) == ["Relu", "Sub"]


def test_a_piece_of_the_zeros_is_the_only_constant() -> None:
    model = graph(
        """
        g (float[2,5,3] x) => (float[2,6,3] y) {
          z = Sub(x, x)
          piece = Slice(z, zero, one, one)
          y = Concat<axis = 1>(x, piece)
        }""",
        zero=integers(0),
        one=integers(1),
    )
    blanked = after(model, "constant-fold-zeros")
    assert [tuple(value.shape or ()) for value in blanked.graph.initializers.values()] == [(2, 1, 3)]
    assert_same(model, blanked, 2, 5, 3)


def test_zeros_of_a_symbolic_batch_stay_computed() -> None:
    model = graph("g (float[n,3] x) => (float[n,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    assert ops(after(model, "constant-fold-zeros")) == ["Sub", "Concat"]


def test_zeros_keep_their_type() -> None:
    model = graph("g (double[2,3] x) => (double[2,6] y) { z = Sub(x, x) y = Concat<axis = 1>(x, z) }")
    blanked = after(model, "constant-fold-zeros", "concat-zeros-to-pad")
    assert ops(blanked) == ["Pad"]
    sample = noise(2, 3).astype(np.float64)
    np.testing.assert_array_equal(run(blanked, sample)[0], run(model, sample)[0])


@pytest.mark.parametrize("order", ["z, x", "x, z", "z, x, z", "z, z, x"])
@pytest.mark.parametrize("opset", [11, 13])
def test_zero_blocks_at_the_ends_are_padding(order: str, opset: int) -> None:
    length = 4 + 2 * order.count("z")
    model = graph(
        f"g (float[3,4,2] x) => (float[3,{length},2] y) {{ y = Concat<axis = -2>({order}) }}",
        opset=opset,
        z=np.zeros((3, 2, 2), dtype=np.float32),
    )
    padded = after(model, "concat-zeros-to-pad")
    assert ops(padded) == ["Pad"]
    assert padded.graph.outputs[0].name == "y"
    assert_same(model, padded, 3, 4, 2)


@pytest.mark.parametrize(("block", "order"), [(0.0, "x, z, x"), (1e-30, "x, z"), (-0.0, "x, z")])
def test_other_joins_stay(block: float, order: str) -> None:
    model = graph(
        f"g (float[3,2] x) => (float[3,n] y) {{ y = Concat<axis = 1>({order}) }}",
        z=np.full((3, 2), block, dtype=np.float32),
    )
    assert ops(after(model, "concat-zeros-to-pad")) == ["Concat"]


# merge-slices


def test_a_chain_over_several_axes_is_one_cut() -> None:
    model = graph(
        """
        g (float[5,6,7] x) => (float[a,b,c] y) {
          p = Slice(x, one, end, zero)
          q = Slice(p, one, four, one, two)
          y = Slice(q, last, minus, last, last)
        }""",
        zero=integers(0),
        one=integers(1),
        two=integers(2),
        four=integers(4),
        last=integers(-1),
        minus=integers(-5),
        end=integers(END),
    )
    merged = after(model, "merge-slices")
    assert ops(merged) == ["Slice"]
    assert_same(model, merged, 5, 6, 7)


def test_a_slice_that_others_use_stays_and_each_branch_cuts_the_source() -> None:
    model = graph(
        """
        g (float[5,6] x) => (float[4,3] y, float[2,3] z, float[5,3] w) {
          p = Slice(x, zero, three, one)
          y = Slice(p, one, end, zero)
          z = Slice(p, three, end, zero)
          w = Relu(p)
        }""",
        zero=integers(0),
        one=integers(1),
        three=integers(3),
        end=integers(END),
    )
    merged = after(model, "merge-slices")
    assert ops(merged) == ["Slice", "Slice", "Slice", "Relu"]
    assert not slices_of_slices(merged)
    assert_same(model, merged, 5, 6)


bound = st.integers(-9, 9)


@settings(max_examples=60, deadline=None)
@given(first=st.tuples(bound, bound, st.integers(1, 3)), second=st.tuples(bound, bound, st.integers(1, 3)))
def test_two_cuts_of_one_axis_are_the_cut_that_both_leave(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    names = ("s", "e", "t")
    model = graph(
        "g (float[2,7] x) => (float[2,n] y) { p = Slice(x, s1, e1, axis, t1) y = Slice(p, s2, e2, axis, t2) }",
        axis=integers(1),
        **{f"{name}1": integers(number) for name, number in zip(names, first, strict=True)},
        **{f"{name}2": integers(number) for name, number in zip(names, second, strict=True)},
    )
    merged = after(model, "merge-slices")
    assert ops(merged) == ["Slice"]
    sample = noise(2, 7)
    rows = slice(*first), slice(*second)
    np.testing.assert_array_equal(run(merged, sample)[0], sample[:, rows[0]][:, rows[1]])


def test_one_axis_cut_backwards_is_left() -> None:
    model = graph(
        "g (float[2,7] x) => (float[2,n] y) { p = Slice(x, last, low, one, last) y = Slice(p, one, end, one) }",
        one=integers(1),
        last=integers(-1),
        low=integers(-6),
        end=integers(END),
    )
    assert ops(after(model, "merge-slices")) == ["Slice", "Slice"]


def test_computed_bounds_are_left() -> None:
    model = graph(
        """
        g (float[n,7] x) => (float[a,b] y) {
          shape = Shape(x)
          rows = Slice(shape, zero, one)
          p = Slice(x, zero, rows, zero)
          y = Slice(p, one, end, one)
        }""",
        zero=integers(0),
        one=integers(1),
        end=integers(END),
    )
    merged = after(model, "merge-slices")
    assert ops(merged).count("Slice") == 3
    assert_same(model, merged, 3, 7)


# dead-node-elimination


def test_nothing_unneeded_is_left() -> None:
    model = graph(
        "g (float[2,3] x) => (float[2,3] y) { a = Identity(x) b = Relu(a) unused = Add(a, v) y = Identity(b) }",
        domains=', "ai.onnx.ml" : 2',
        v=noise(3),
    )
    cleaned = after(model, "dead-node-elimination")
    assert ops(cleaned) == ["Relu"]
    assert not cleaned.graph.initializers
    assert dict(cleaned.opset_imports) == {"": 11}
    assert [value.name for value in (*cleaned.graph.inputs, *cleaned.graph.outputs)] == ["x", "y"]
    assert_same(model, cleaned, 2, 3)


# the list of passes


def test_an_unknown_pass_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean merge-slices"):
        run_passes(shift_graph(batch=1, views=1, segments=4, channels=8, classes=3), passes=["merge_slice"])


def test_names_of_earlier_versions_select_the_present_passes() -> None:
    earlier = (
        "share-duplicates",
        "zero-blanks",
        "pad-blanks",
        "average-early",
        "pool-stride",
        "eliminate-dead",
    )
    model = shift_graph(batch=1, views=1, segments=4, channels=8, classes=3)
    assert [step.name for step in run_passes(model, passes=earlier).steps] == [
        "common-subexpression-elimination",
        "constant-fold-zeros",
        "concat-zeros-to-pad",
        "hoist-mean",
        "push-stride",
        "dead-node-elimination",
    ]


def test_no_pass_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="No pass was given"):
        run_passes(shift_graph(batch=1, views=1, segments=4, channels=8, classes=3), passes=[])


def test_the_graph_that_is_given_stays_as_it_is() -> None:
    model = shift_graph(batch=1, views=2, segments=4, channels=8, classes=3)
    before = ir.to_proto(model).SerializeToString()
    run_passes(model, batch_size=3)
    assert ir.to_proto(model).SerializeToString() == before


def test_contradicting_shapes_are_named() -> None:
    model = graph("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Add(a, w) }", w=noise(5))
    with pytest.raises(BadDataError, match=r"\(Add\) contradict"):
        run_passes(model)
