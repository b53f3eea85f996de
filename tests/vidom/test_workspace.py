from __future__ import annotations

from pathlib import Path

import pytest

from vidom.errors import UsageError
from vidom.workspace import Workspace


def test_the_files_of_a_model_are_where_the_readme_says():
    files = Workspace(recipe="tsm_sthv2", batch_size=8)
    assert files.exported == Path("om_models/build/tsm_sthv2/bs8/tsm_sthv2_bs8.onnx")
    assert files.optimized == Path("om_models/build/tsm_sthv2/bs8/tsm_sthv2_new_bs8.onnx")
    assert files.om == Path("om_models/build/tsm_sthv2/bs8/tsm_sthv2_new_bs8.om")
    assert files.clips == Path("run/tsm_sthv2/store/clips")
    assert files.results / files.result_name == Path("run/tsm_sthv2/result/bs8")
    assert files.summary == Path("run/tsm_sthv2/result/bs8_summary.json")
    assert files.evaluation() == Path("run/tsm_sthv2/evaluation")
    assert files.evaluation(1000) == Path("run/tsm_sthv2/evaluation_1000")
    assert files.bench == Path("run/tsm_sthv2/bench")


@pytest.mark.parametrize(
    ("dtype", "per_view", "variant"),
    [
        ("float32", False, "i3d_k400"),
        ("uint8", False, "i3d_k400_uint8"),
        ("float32", True, "i3d_k400_views"),
        ("uint8", True, "i3d_k400_views_uint8"),
    ],
)
def test_variants_of_a_model_do_not_share_folders(dtype: str, per_view: bool, variant: str):
    files = Workspace(recipe="i3d_k400", dtype=dtype, per_view=per_view)
    assert files.build == Path("om_models/build") / variant / "bs1"
    assert files.store == Path("run") / variant / "store"


def test_folders_of_a_recipe_file_are_named_after_it():
    files = Workspace(recipe="some/where/mine.yaml", batch_size=2)
    assert files.exported == Path("om_models/build/mine/bs2/mine_bs2.onnx")
    assert files.run == Path("run/mine")


@pytest.mark.slow
def test_out_and_store_replace_their_folders():
    files = Workspace(recipe="tsm_demo", out=Path("a"), store_folder=Path("b"))
    assert (files.results, files.store) == (Path("a/result"), Path("b"))


@pytest.mark.parametrize(
    "recipe", ["../../evil", "a/b", "/a", "", ".", "..", "x" * 65, "a\nb", "some/...yaml"]
)
def test_a_name_does_not_lead_elsewhere(recipe: str):
    with pytest.raises(UsageError, match="cannot name a recipe"):
        Workspace(recipe=recipe)
