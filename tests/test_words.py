"""The project uses the words of the field: code, comments, help, messages and documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage_packages import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
INSTEAD = {
    r"told|tells": "reported, shown, detected",
    r"pictures?": "image, frame, figure",
    r"drawn": "generated, sampled",
    r"mend(s|ed|ing)?": "fix",
    r"surgeons?": "optimizer, alternative optimizer",
    r"operates? on|operated": "optimize, rewrite",
    r"proofs?|prove[sd]?": "parity check, verified",
    r"can not": "cannot",
    r"at hand|for want of": "available, missing",
    r"stand-ins?": "stub, seeded random weights",
    r"beside": "next to",
    r"in turn": "interleaved",
    r"outside (tool|program|process)": "external",
    r"knowledges": "rewrite rules",
    r"torn": "truncated",
}
# Names of others: the package ait-surgeon, its modules, and the old name of a make target and of a variable.
FOREIGN = re.compile(r"ait-surgeon|SURGEON|auto-optimizer surgeon|surgeon: auto-optimizer|[\"./_]knowledges")


def texts() -> Iterator[tuple[Path, str]]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    for path in [
        *files,
        ROOT / "Makefile",
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
    ]:
        yield path, FOREIGN.sub("", path.read_text(encoding="utf-8"))


def test_words_that_an_engineer_would_have_to_translate_are_not_used():
    banned = {re.compile(rf"(?<![\w.])({words})(?!\w)", re.I): better for words, better in INSTEAD.items()}
    used = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, better: {better}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, better in banned.items()
        for match in pattern.finditer(line)
    ]
    assert used == []


@pytest.mark.parametrize("line", ["It tells the user.", "This can not be.", "The picture is drawn."])
def test_the_check_detects_them(line: str):
    assert any(re.search(rf"\b({words})\b", line, re.I) for words in INSTEAD)
