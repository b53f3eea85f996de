from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import load_recipe, recipe_folder, recipe_names


def test_sthv2_has_the_published_contract():
    recipe = load_recipe("tsm_sthv2")
    assert recipe.views.sample_shape[0] == 8 * 2 * 3
    assert recipe.input_shape(8) == (8, 48, 3, 256, 256)
    assert recipe.output_shape(8) == (8, 174)
    assert recipe.head.average_clips == "score"
    ascend, original = recipe.published
    assert (ascend.average_clips, ascend.top1, ascend.top5) == ("score", 0.6187, 0.8721)
    assert ascend.fps == {1: 20.77, 4: 18.41, 8: 17.67, 16: 17.12, 32: 17.36}
    assert (original.average_clips, original.top1, original.top5) == ("prob", 0.6182, 0.8680)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_names_each_class_once(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(set(recipe.labels())) == recipe.dataset.num_classes


@pytest.mark.parametrize("name", ["tsm_sthv2", "tsm_k400", "tsm_ucf101"])
def test_recipes_agree_with_the_resolved_original_configuration(name: str, shared: Path):
    config = json.loads((shared / "fixtures/mmaction2/configs_resolved.json").read_text())[name]["resolved"]
    recipe = load_recipe(name)
    steps = {step["type"]: step for step in config["test_pipeline"]}
    assert recipe.network.depth == config["model"]["backbone"]["depth"]
    assert recipe.network.shift_div == config["model"]["backbone"]["shift_div"]
    assert recipe.dataset.num_classes == config["model"]["cls_head"]["num_classes"]
    assert recipe.views.num_segments == steps["SampleFrames"]["num_clips"]
    assert recipe.views.twice_sample == steps["SampleFrames"].get("twice_sample", False)
    assert recipe.views.short_side == steps["Resize"]["scale"][1]
    crop = "ThreeCrop" if recipe.views.crop == "three" else "CenterCrop"
    assert recipe.views.crop_size == steps[crop]["crop_size"]
    assert list(recipe.views.mean) == steps["Normalize"]["mean"]
    assert list(recipe.views.std) == steps["Normalize"]["std"]


def test_all_faults_are_told_at_once_with_the_nearest_key():
    with pytest.raises(UsageError) as error:
        load_recipe("tsm_sthv2", ["views.cropp=three", "network.depht=50", "views.crop=four"])
    text = str(error.value)
    assert "3 fault(s)" in text
    assert "views.cropp: unknown key; did you mean 'crop'?" in text
    assert "network.depht: unknown key; did you mean 'depth'?" in text
    assert "'four'" in text
    assert error.value.exit_code == ExitCode.USAGE


def test_an_unknown_top_level_key_and_an_unknown_recipe_name_their_neighbours():
    with pytest.raises(UsageError, match="did you mean 'views'"):
        load_recipe("tsm_sthv2", ["view.crop=three"])
    with pytest.raises(UsageError, match="did you mean 'tsm_sthv2'"):
        load_recipe("tsm_sth2")


def test_a_recipe_can_be_a_file_and_bad_yaml_is_one_paragraph(tmp_path: Path):
    copy = tmp_path / "mine.yaml"
    copy.write_text((recipe_folder() / "tsm_k400.yaml").read_text())
    assert load_recipe(str(copy)).digest == load_recipe("tsm_k400").digest
    copy.write_text("name: [")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_recipe(str(copy))
    copy.write_text("!!python/object/apply:os.system ['touch pwned']")
    with pytest.raises(UsageError, match="uses the tag"):
        load_recipe(str(copy))


def test_overrides_change_the_derived_shapes_and_the_digest():
    plain, one_crop = load_recipe("tsm_sthv2"), load_recipe("tsm_sthv2", ["views.crop=center"])
    assert one_crop.input_shape(2) == (2, 16, 3, 256, 256)
    assert plain.digest != one_crop.digest


def test_overrides_reach_the_entries_of_nested_sections():
    changes = [
        "train.schedule.milestones=[20,40]",
        "train.augmentation.crop.positions=5",
        "train.clip_norm=null",
    ]
    plain, changed = (load_recipe("tsm_ucf101", entries).train for entries in ([], changes))
    assert plain is not None and changed is not None
    document = plain.model_dump()
    document["schedule"]["milestones"] = (20, 40)
    document["augmentation"]["crop"]["positions"] = 5
    document["clip_norm"] = None
    assert changed.model_dump() == document


def test_a_contradicting_shape_is_refused_with_the_arithmetic():
    recipe = load_recipe("tsm_sthv2")
    recipe.check_shape((4, 48, 3, 256, 256))
    with pytest.raises(UsageError, match="8 segments x 2 temporal phase.*x 3 crop.*= 48 frames"):
        recipe.check_shape((1, 8, 3, 224, 224))
    with pytest.raises(UsageError):
        recipe.check_shape((0, 48, 3, 256, 256))


def test_a_label_file_of_another_length_is_refused():
    with pytest.raises(UsageError, match="names 174 classes.*num_classes 400"):
        load_recipe("tsm_k400", ["dataset.labels=labels/sthv2.txt"]).labels()


def test_crops_that_do_not_fit_the_resized_frame_are_refused():
    with pytest.raises(UsageError, match="crop_size must equal short_side 256, found 224"):
        load_recipe("tsm_sthv2", ["views.crop_size=224"])
    with pytest.raises(UsageError, match=r"train\.crop_size 300 does not fit into views\.short_side 256"):
        _ = load_recipe("stnet_k400", ["train.crop_size=300"]).training
    assert load_recipe("tsm_sthv2", ["views.crop_size=32", "views.short_side=32"]).views.crop_size == 32
    with pytest.raises(UsageError, match="crop_size 300 does not fit into short_side 256"):
        load_recipe("tsm_k400", ["views.crop_size=300"])
