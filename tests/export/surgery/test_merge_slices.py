"""The pass merge-slices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_graphs import (
    END,
    after,
    assert_same,
    graph,
    integers,
    noise,
    ops,
    run,
    slices_of_slices,
)


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
