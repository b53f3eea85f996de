"""Faults in opset, domains, operators, shapes and types, each planted into a small graph."""

from __future__ import annotations

from pathlib import Path

import pytest
from lint_graphs import found, names

from export.atc.cann_versions import opset_range, parse_cann
from export.lint.linter import RULES
from vidom.errors import BadDataError, UsageError


def relu(dims: str = "2,3") -> str:
    return f"g (float[{dims}] x) => (float[{dims}] y) {{ y = Relu(x) }}"


@pytest.mark.parametrize(
    ("opset", "cann", "expected"),
    [
        (11, None, []),
        (13, "6.0.RC1", []),
        (14, "6.0.1", [("opset", "error")]),
        (17, None, [("opset", "warning")]),
        (17, "7.0.0", []),
        (19, "8.0.RC2", [("opset", "error")]),
        (19, None, [("opset", "error")]),
        (10, "9.0", [("opset", "error")]),
        (9, "8.0", []),
    ],
)
def test_opset_by_release(
    tmp_path: Path, opset: int, cann: str | None, expected: list[tuple[str, str]]
) -> None:
    assert names(found(tmp_path, relu(), opset=opset, cann=cann)) == expected


def test_every_release_reads_the_opsets_of_the_common_range() -> None:
    common = opset_range(None)
    for release in ((5, 0), (6, 0), (7, 0), (8, 0), (9, 0)):
        assert opset_range(release).first <= common.first <= common.last <= opset_range(release).last


@pytest.mark.parametrize("text", ["", "8", "eight", "8.x"])
def test_an_invalid_release_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="CANN version"):
        parse_cann(text)


def test_an_unused_domain_is_an_error(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, relu(), domains=', "ai.onnx.ml": 2')
    assert (finding.rule, finding.severity) == ("one-domain", "error")
    assert "ai.onnx.ml 2" in finding.text
    assert "E16005" in finding.text


def test_a_foreign_operator_is_reported(tmp_path: Path) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = pkg.onnxscript.Gelu2(x) }"
    findings = found(tmp_path, text, domains=', "pkg.onnxscript": 1')
    assert ("foreign-operator", "error") in names(findings)
    assert any("pkg.onnxscript::Gelu2" in str(finding) for finding in findings)


@pytest.mark.parametrize(("cann", "severity"), [(None, "error"), ("8.0", "error"), ("9.0", "warning")])
def test_an_operator_outside_the_list(tmp_path: Path, cann: str | None, severity: str) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = Mish(x) }"
    findings = found(tmp_path, text, opset=18, cann=cann)
    assert ("unlisted-operator", severity) in names(findings)


def test_a_branch_is_reported(tmp_path: Path) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = a () => (float[2] t) { t = Relu(x) },
                  else_branch = b () => (float[2] e) { e = Neg(x) }> }"""
    assert ("control-flow", "warning") in names(found(tmp_path, text))


def test_a_symbolic_dimension_needs_a_batch_or_a_profile(tmp_path: Path) -> None:
    text = relu("n,3")
    (finding,) = found(tmp_path, text)
    assert (finding.rule, finding.severity) == ("static-inputs", "error")
    assert "nx3" in finding.text
    assert found(tmp_path, text, batch_size=8) == ()
    assert found(tmp_path, text, profiles=(1, 4)) == ()


def test_profiles_cover_the_first_dimension_only(tmp_path: Path) -> None:
    assert names(found(tmp_path, relu("2,w"), batch_size=2)) == [("static-inputs", "error")]
    assert names(found(tmp_path, relu("n,w"), profiles=(1, 4))) == [("static-inputs", "error")]


def test_profiles_need_a_symbolic_batch(tmp_path: Path) -> None:
    assert names(found(tmp_path, relu("2,3"), profiles=(1, 4))) == [("profiles-fit", "error")]


@pytest.mark.parametrize("place", ["input", "inner"])
def test_an_empty_dimension(tmp_path: Path, place: str) -> None:
    inner = """g (float[2,3] x) => (float[2,3] y) <int64[1] a = {1}> {
      nothing = Slice(x, a, a, a)
      y = Concat<axis = 1>(x, nothing) }"""
    findings = found(tmp_path, relu("2,0") if place == "input" else inner)
    assert {name for name, _ in names(findings)} == {"zero-dimension"}
    assert findings[0].severity == "error"


CHAIN = """g (float[n,4] x) => (float[n,2] y) <int64[1] zero = {0}, int64[1] two = {2}> {
  shape = Shape(x)
  rows = Gather(shape, zero)
  dims = Concat<axis = 0>(rows, two)
  zeros = ConstantOfShape(dims)
  y = Identity(zeros) }"""


def test_a_shape_chain_breaks_profiles_and_folds_with_a_batch(tmp_path: Path) -> None:
    profiled = found(tmp_path, CHAIN, profiles=(1, 4))
    assert ("inner-shape", "error") in names(profiled)
    fixed = found(tmp_path, CHAIN, batch_size=4)
    assert names(fixed) == [("unfolded-shape", "warning")]
    assert "1 ConstantOfShape, 1 Shape" in fixed[0].text


def test_a_data_dependent_shape_is_reported(tmp_path: Path) -> None:
    text = "g (float[4] x) => (int64[1,k] y) { y = NonZero(x) }"
    assert ("inner-shape", "warning") in names(found(tmp_path, text))


def test_constant_of_shape_of_an_unsupported_type(tmp_path: Path) -> None:
    text = """g (float[n,4] x) => (bool[p,q] y) {
      shape = Shape(x)
      y = ConstantOfShape<value = bool[1] {1}>(shape) }"""
    findings = found(tmp_path, text, batch_size=2)
    assert ("constant-of-shape", "warning") in names(findings)
    assert any("BOOL" in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("dtype", "words"), [("uint8", "experimental"), ("int64", "INT64"), ("double", "DOUBLE")]
)
def test_input_types(tmp_path: Path, dtype: str, words: str) -> None:
    text = f"g ({dtype}[2,3] x) => (float[2,3] y) {{ y = Cast<to = 1>(x) }}"
    (finding,) = found(tmp_path, text)
    assert (finding.rule, finding.severity) == ("input-type", "warning")
    assert words in finding.text


def test_six_dimensions_exceed_the_published_conversions(tmp_path: Path) -> None:
    assert found(tmp_path, relu("1,2,2,2,2")) == ()
    assert names(found(tmp_path, relu("1,2,2,2,2,2"))) == [("input-rank", "warning")]


TOPK = """g (float[2,8] x) => (int64[2,3] y) <int64[1] k = {{3}}, int64[1] step = {{10}}, int32[1] step32 = {{10}}> {{
  best, where = TopK(x, k)
  {tail} }}"""


def test_int64_arithmetic_after_topk(tmp_path: Path) -> None:
    direct = found(tmp_path, TOPK.format(tail="y = Add(where, step)"))
    assert names(direct) == [("int64-arithmetic", "error")]
    assert "E89999" in direct[0].text
    cast = "w = Cast<to = 6>(where) s = Add(w, step32) y = Cast<to = 7>(s)"
    assert found(tmp_path, TOPK.format(tail=cast)) == ()


def test_the_indices_of_topk_are_tracked_through_other_operators(tmp_path: Path) -> None:
    tail = "same = Identity(where) turned = Transpose<perm = [0,1]>(same) y = Mul(turned, step)"
    assert ("int64-arithmetic", "error") in names(found(tmp_path, TOPK.format(tail=tail)))


def test_int64_arithmetic_elsewhere_warns(tmp_path: Path) -> None:
    text = """g (float[2,3] x) => (int64[2,3] y) <int64[1] step = {10}> {
      w = Cast<to = 7>(x)
      y = Add(w, step) }"""
    assert names(found(tmp_path, text)) == [("int64-arithmetic", "warning")]


def test_float64_is_a_warning_and_bfloat16_an_error(tmp_path: Path) -> None:
    wide = "g (float[2,3] x) => (float[2,3] y) { d = Cast<to = 11>(x) e = Exp(d) y = Cast<to = 1>(e) }"
    assert names(found(tmp_path, wide)) == [("wide-type", "warning")]
    brain = "g (float[2,3] x) => (float[2,3] y) { d = Cast<to = 16>(x) e = Exp(d) y = Cast<to = 1>(e) }"
    assert names(found(tmp_path, brain, opset=13)) == [("wide-type", "error")]


def test_contradicting_shapes_are_bad_data(tmp_path: Path) -> None:
    text = "g (float[2,3] x, float[4,5] z) => (float[2,5] y) { y = MatMul(x, z) }"
    with pytest.raises(BadDataError, match="contradict"):
        found(tmp_path, text)


def test_every_rule_has_a_source() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.source.split()[0] in ("DOC", "SRC", "WILD")
        assert rule.check.__doc__
