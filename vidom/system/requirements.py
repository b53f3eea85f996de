"""Which versions vidom declares that it needs, read from its own package metadata with the standard library."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

__all__ = ["Requirement", "declared_requirements", "installed_version", "parse_requirement", "satisfies"]

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?", re.ASCII
)
_CLAUSE = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*([\w.+!-]+?)(\.\*)?\s*", re.ASCII)
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")


@dataclass(frozen=True)
class Requirement:
    """A package by its normalised name, the versions that will do (`>=2.0`) and the extra that asks for it."""

    name: str
    versions: str
    extra: str

    def __str__(self) -> str:
        """Return it as pip takes it."""
        return self.name + self.versions

    def met_by(self, installed: str | None) -> bool:
        """Return whether `installed`, None for an absent package, satisfies the requirement."""
        return installed is not None and satisfies(installed, self.versions)


def parse_requirement(text: str) -> Requirement:
    """Return the requirement that a `Requires-Dist` line states; of its markers only `extra` is read."""
    found = _REQUIREMENT.match(text)
    if found is None:
        raise ValueError(f"invalid requirement {text!r}")
    name, versions, marker = found.groups()
    extra = _EXTRA.search(marker or "")
    return Requirement(_normalised(name), versions.replace(" ", ""), extra.group(1) if extra else "")


def satisfies(installed: str, versions: str) -> bool:
    """Return whether the release numbers of `installed` fit every clause of `versions` (`>=2.0,<3`).

    Compares numbers only: a local part (`+cpu`) and pre-release letters are left out of account.
    """
    return all(_fits(_release(installed), clause) for clause in versions.split(",") if clause.strip())


def _fits(have: tuple[int, ...], clause: str) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        raise ValueError(f"invalid version clause {clause!r}")
    operator, text, wildcard = found.groups()
    want = _release(text)
    if operator in ("==", "!=") and wildcard:
        return (have[: len(want)] == want) is (operator == "==")
    width = max(len(have), len(want))
    left, right = (value + (0,) * (width - len(value)) for value in (have, want))
    return {
        "==": left == right,
        "!=": left != right,
        "<=": left <= right,
        ">=": left >= right,
        "<": left < right,
        ">": left > right,
        "~=": left >= right and left[: len(want) - 1] == want[:-1],
    }[operator]


def _release(text: str) -> tuple[int, ...]:
    numbers = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", text.strip(), re.ASCII)
    return tuple(int(part) for part in numbers.group(1).split(".")) if numbers else ()


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_requirements() -> tuple[dict[str, Requirement], str] | None:
    """Return what the installed vidom declares by package name, and its `Requires-Python`.

    None when this interpreter has no vidom installed, as before `make setup`.
    """
    try:
        vidom = distribution("vidom")
    except PackageNotFoundError:
        return None
    requirements = _by_name(vidom.requires or ())
    return requirements, str(vidom.metadata["Requires-Python"] or "")


def _by_name(lines: Iterable[str]) -> dict[str, Requirement]:
    requirements = (parse_requirement(line) for line in lines)
    return {requirement.name: requirement for requirement in requirements}


def installed_version(name: str) -> str | None:
    """Return the version of an installed package without importing it; None where it is absent."""
    try:
        found: str | None = version(name)
    except PackageNotFoundError:
        return None
    return found
