from __future__ import annotations

from pathlib import Path

import pytest
from view_recipes import packed, write_list, write_recipes

from benchmarks.packing.store_sizes import sample_bytes, store_sizes
from vidom.formats.recipe import load_recipe

README = Path(__file__).parents[2] / "README.md"
BEGINNING, END = "<!-- python -m benchmarks.packing.store_sizes -->\n", "\n<!-- end of store sizes -->"


def test_the_readme_has_the_printed_table():
    text = README.read_text()
    assert text.count(BEGINNING) == text.count(END) == 1, (
        f"README.md needs {BEGINNING!r} and {END!r} once each"
    )
    shown = text.partition(BEGINNING)[2].partition(END)[0]
    assert shown == store_sizes(), "put what `python -m benchmarks.packing.store_sizes` prints into README.md"


def test_sizes_worked_out_by_hand():
    lines = {line.split("|")[1].strip(): line for line in store_sizes().splitlines()}
    # 48 frames of 3 x 256 x 256 in four bytes or one, 16 of 3 x 256 x 455; of 24,777 samples.
    assert "| 37.7 MB, 935.3 GB | 9.4 MB, 233.8 GB | 5.6 MB, 138.5 GB |" in lines["tsm_sthv2"]
    # 8 frames of 3 x 224 x 224; with one crop no pixel is stored twice.
    assert "| 4.8 MB, 95.4 GB | 1.2 MB, 23.8 GB | – |" in lines["tsm_k400"]
    # 30 views of 32 frames of 3 x 256 x 256.
    assert lines["i3d_dense_k400"].startswith("| i3d_dense_k400 | 19,796 | 755.0 MB, 14.9 TB |")


@pytest.mark.parametrize(
    ("setting", "dtype"), [([], "float32"), ([], "uint8"), (["views.frame_size=43x32"], "uint8")]
)
def test_sizes_are_those_of_packed_files(setting: list[str], dtype: str, tiny_recipe: Path, tmp_path: Path):
    recipes = write_recipes(tmp_path, tiny_recipe.read_text())
    recipe = load_recipe(str(recipes["tsm"]), setting)
    store = packed(recipe, write_list(tmp_path / "list.txt"), tmp_path / "store", dtype=dtype, limit=1)
    (clip_file,) = store.files
    assert store.path(clip_file).stat().st_size == sample_bytes(recipe, dtype)
