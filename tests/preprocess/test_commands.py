"""Every command as a script, started in an unrelated folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "preprocess"
OPTIONS = {
    "pack": "--recipe --set --data_root --ann_file --output_dir --batch_size --per_view --dtype --workers --limit "
    "--on_bad --ray",
    "prepare": "--dataset --src --out --class_list --num_classes --short_side --quality --fps --decoder --workers "
    "--on_bad --packs --ray",
    "audit": "--ann_file --data_root --labels --report --min_frames --workers",
    "layout_310": "--store --output_dir",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_help_lists_every_option(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = {word.strip("[],") for word in done.stdout.split() if word.strip("[]").startswith("--")}
    assert set(OPTIONS[name].split()) <= listed
    assert list(tmp_path.iterdir()) == []
