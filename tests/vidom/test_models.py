"""The list of models: what the recipe files say, and whether the weights are here."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vidom.errors import UsageError
from vidom.formats.recipe import recipe_folder
from vidom.models import as_text, main, models

RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in recipe_folder().glob("*.yaml")}


def test_every_recipe_is_listed_with_its_weights_and_published_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([])
    blocks = {block.split(":")[0]: block for block in capsys.readouterr().out.split("\n\n")}
    assert blocks.keys() == RECIPES.keys()
    for name, recipe in RECIPES.items():
        assert recipe["checkpoint"]["file"] in blocks[name]
        assert (recipe["checkpoint"].get("url") or "") in blocks[name]
        for entry in recipe.get("published", ()):
            assert f"top-1 {100 * entry['top1']:.2f}" in blocks[name]
            assert f"averaging {entry['average_clips']}" in blocks[name]
            assert (entry.get("chip") or "") in blocks[name]


def test_shapes_and_numbers_of_the_published_tsm() -> None:
    (model,) = models(names=["tsm_sthv2"])
    text = as_text(model)
    assert "batch x 48 x 3 x 256 x 256" in text
    assert "batch x 174 probabilities, logits averaged over 6 clips" in text
    assert "top-1 61.87, top-5 87.21, averaging score, on Ascend310P3" in text
    assert "20.77 / 18.41 / 17.67 / 17.12 / 17.36 samples a second at batch 1 / 4 / 8 / 16 / 32" in text


def test_settings_that_are_no_default_are_named(tiny_recipe: Path) -> None:
    (model,) = models(names=[str(tiny_recipe)], folders=[])
    assert "tsm, depth 10, base_channels 8\n" in as_text(model)
    assert "published nothing" in as_text(model)


def test_a_checkpoint_of_the_name_is_found_in_the_first_folder_that_has_it(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(tiny_recipe)]
    (absent,) = models(names=names)
    assert absent.checkpoint is None
    assert "not here" in as_text(absent)
    (tmp_path / "checkpoints").mkdir()
    second = tmp_path / "checkpoints" / "tiny.pth"
    second.touch()
    assert models(names=names)[0].checkpoint == Path("checkpoints/tiny.pth")
    (tmp_path / "tiny.pth").touch()
    assert models(names=names)[0].checkpoint == Path("tiny.pth")
    assert "here: tiny.pth" in as_text(models(names=names)[0])
    assert models(names=["tsm_demo"])[0].checkpoint is not None


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'tsm_sthv2'"):
        main(["--recipe", "tsm_sthv"])
