"""What a worker's program is: a change anywhere in the code that it runs is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidom.parallel import ray_workplace
from vidom.system import source_digest

ROOT = Path(__file__).resolve().parents[2]
# The modules whose functions Ray's workers are given.
GIVEN = ("infer.evaluation.ray_stages", "preprocess.pack_groups", "preprocess.datasets.extraction_run")


def packages_that_workers_import() -> set[str]:
    program = f"import sys, {', '.join(GIVEN)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in done.stdout.split() if (ROOT / name).is_dir()}


@pytest.mark.slow
def test_a_change_in_any_package_that_workers_run_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packages = packages_that_workers_import()
    assert {"vidom", "preprocess", "infer", "postprocess"} <= packages
    for package in packages:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_digest, "__file__", str(tmp_path / "vidom" / "system" / "source_digest.py"))
    digests = [ray_workplace.program_digest()]
    for package in sorted(packages):
        (tmp_path / package / "__init__.py").write_text("# changed\n")
        digests.append(ray_workplace.program_digest())
    assert len(set(digests)) == len(packages) + 1
