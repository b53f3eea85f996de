from __future__ import annotations

import pytest

from vidom.system.requirements import declared_requirements, installed_version, parse_requirement, satisfies


def test_declared_requirements_are_those_of_the_installed_vidom() -> None:
    declared = declared_requirements()
    assert declared is not None
    requirements, python = declared
    assert python == ">=3.10"
    assert str(requirements["numpy"]) == "numpy>=2.0"
    assert (requirements["pytest"].extra, requirements["numpy"].extra) == ("dev", "")
    assert installed_version("no-such-package-at-all") is None
    assert not requirements["numpy"].met_by(None)


@pytest.mark.parametrize(
    "version", ["1", "1.9.9", "2.0", "2.0.0", "2.0.1", "2.13.0", "2.13.0+cpu", "3", "10.0", "0.7.2"]
)
@pytest.mark.parametrize(
    "clauses",
    [
        "",
        ">=2.0",
        "==2.13.0",
        ">=2,<3",
        "!=2.0",
        "~=2.0.0",
        "~=2.0",
        "<=2.0",
        ">2.0",
        "<10",
        "==2.*",
        "!=2.0.*",
    ],
)
def test_versions_compare_as_pip_compares_them(version: str, clauses: str) -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    assert satisfies(version, clauses) == specifiers.SpecifierSet(clauses).contains(version)


@pytest.mark.parametrize(
    ("line", "text", "extra"),
    [
        ("av>=12", "av>=12", ""),
        ("torch==2.13.0", "torch==2.13.0", ""),
        ('types-PyYAML; extra == "dev"', "types-pyyaml", "dev"),
        ("Some_Package[fast,small] (>=1.0, <2) ; extra == 'x'", "some-package>=1.0,<2", "x"),
    ],
)
def test_requires_dist_lines(line: str, text: str, extra: str) -> None:
    requirement = parse_requirement(line)
    assert (str(requirement), requirement.extra) == (text, extra)


@pytest.mark.parametrize("line", ["", ">=1.0", "!"])
def test_what_is_no_requirement_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="invalid requirement"):
        parse_requirement(line)


def test_a_clause_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid version clause"):
        satisfies("1.0", "=>2")
