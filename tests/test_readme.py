"""The commands of the README are executed, or, where they need the user's own files, checked word by word."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "README.zh-CN.md")
PAIRS = (PAGES, ("docs/training.md", "docs/training.zh-CN.md"))


def lines_of(page: str, language: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def commands_in_tables(page: str) -> list[list[str]]:
    """Return the commands, options and variables in each row of the page's tables, sorted."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = r"`((?:make|vidom|python|bash) [^`]+|--[^`]+|[A-Z]+=[^`]*)`"
    return [sorted(re.findall(code, row)) for row in re.findall(r"^\|.*\|$", text, re.M)]


def shell(line: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("pages", PAIRS, ids=lambda pages: pages[0])
def test_both_languages_show_the_same_commands(pages: tuple[str, str]):
    english, chinese = pages
    for language in ("bash", "sh"):
        assert lines_of(english, language) == lines_of(chinese, language)
    assert commands_in_tables(english) == commands_in_tables(chinese)
    assert lines_of(english, "sh") and any(commands_in_tables(english))


def test_torch_npu_is_that_of_the_locked_torch():
    locked = (ROOT / "requirements-torch.lock").read_text().strip()
    (installed,) = (line for line in lines_of(PAGES[0], "sh") if "torch-npu" in line)
    assert installed.split()[-1] == locked.replace("torch==", "torch-npu==")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lines_that_need_nothing_run_as_they_stand():
    # What an earlier version of the code has evaluated is refused, as it should be.
    for evaluation in (ROOT / "run").glob("tsm_demo*/evaluation"):
        shutil.rmtree(evaluation)
    outputs = {}
    for line in lines_of(PAGES[0], "bash"):
        if line == "make test":
            continue
        done = shell(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        outputs[line.split()[1]] = outputs.get(line.split()[1], "") + done.stdout
    assert re.search(r"^TSM +(0\.9[5-9]|1\.0)", outputs["demo"], re.M)
    assert "PASSED" in outputs["export"]
    assert re.search(r"^top1_acc\t(0\.9[5-9]|1\.0)", outputs["score"], re.M)
    assert "throughput 1000*batchsize.mean(4)" in outputs["bench"]
    assert re.findall(r"\| (1|4|8) \| demo \| 240 \| (?:0\.9[5-9]|1\.0)", outputs["bench"]) == ["1", "4", "8"]
    assert len(re.findall(r"^top1_acc\t(?:0\.9[5-9]|1\.0)", outputs["evaluate"], re.M)) == 2
    assert len(re.findall(r"^ *[1-5]  [01]\.\d{4} ", outputs["predict"], re.M)) == 5


@pytest.mark.parametrize("page", [english for english, _ in PAIRS])
def test_the_lines_that_need_the_users_files_name_real_targets_and_variables(page: str):
    variables = set(re.findall(r"^#: (\w+)", (ROOT / "Makefile").read_text(), re.M))
    for line in lines_of(page, "sh"):
        if not line.startswith("make "):
            continue
        named = {word.split("=")[0] for word in shlex.split(line)[2:]}
        assert named <= variables, line
        assert shell(f"{line} --dry-run").returncode == 0, line


@pytest.mark.slow
def test_the_plain_commands_take_the_options_that_the_table_shows():
    commands = re.findall(
        r"`python ((?:-m )?[^\s`-][^\s`]*) ([^`]*)`", (ROOT / PAGES[0]).read_text(encoding="utf-8")
    )
    assert len(commands) >= 7
    for program, words in commands:
        help_text = subprocess.run(
            [sys.executable, *program.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"(?<!\S)--?[A-Za-z][\w-]*", words):
            assert re.search(rf"(?<![\w-]){option}\b", help_text), f"{program} has no {option}"
