"""Samples stored as full frames: the graph cuts the same views, bit for bit, and the scores are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from view_recipes import FRAMES, NAMES, packed, write_list, write_recipes

from export.modify_onnx import main as modify_onnx
from export.to_onnx import main as to_onnx
from export.verify import main as verify
from infer.inference import InferOptions, infer
from networks.deployable import Deployable, cut_views
from postprocess.score import ScoreOptions, score
from preprocess.pack import main as pack_main
from preprocess.sources.frames import RawFrames
from preprocess.tensors.samples import make_sample
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe, load_recipe

# Recipe, settings that keep it small, the synthetic video, the size to which its frames are resized.
CASES = {
    "landscape": ("tsm_sthv2", ["views.short_side=64", "views.crop_size=64"], "land_427x240", "114x64"),
    "portrait": ("tsm_sthv2", ["views.short_side=64", "views.crop_size=64"], "port_240x427", "64x114"),
    "odd": ("tsm_sthv2", ["views.colour=bgr"], "odd_341x257", "340x256"),
    "i3d": (
        "i3d_dense_k400",
        ["views.short_side=32", "views.crop_size=32", "views.clip_len=8"],
        "i3d_340x256",
        "43x32",
    ),
    "i3d uniform": (
        "i3d_k400",
        ["views.short_side=32", "views.crop_size=32", "views.num_segments=3"],
        "i3d_340x256",
        "43x32",
    ),
    "paddle": (
        "pptsm_k400_dense",
        ["views.short_side=64", "views.crop_size=48"],
        "port_240x427",
        "64x85",
    ),
}


def source_of(name: str) -> RawFrames:
    return RawFrames(FRAMES / name, len(list((FRAMES / name).iterdir())))


def case(name: str) -> tuple[Recipe, Recipe, RawFrames]:
    recipe, settings, video, size = CASES[name]
    return (
        load_recipe(recipe, settings),
        load_recipe(recipe, [*settings, f"views.frame_size={size}"]),
        source_of(video),
    )


class NormalisedViews(nn.Module):
    """A module that returns the input of the network of a deployable module."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.deployable = Deployable(nn.Identity(), recipe, input_dtype="uint8")

    def forward(self, samples: Tensor) -> Tensor:
        return self.deployable.clip_logits(samples)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_views_cut_from_full_frames_are_those_of_preprocessing(name: str, tmp_path: Path) -> None:
    crops, full, source = case(name)
    frames = make_sample(source, full.views, dtype="uint8")
    width, height = full.views.frame_size or (0, 0)
    assert frames.tensor.shape == (full.views.frames_per_crop, 3, height, width)
    pixels = make_sample(source, crops.views, dtype="uint8")
    assert frames.frames == pixels.frames
    batch = torch.from_numpy(np.stack([frames.tensor, 255 - frames.tensor]))
    cut = cut_views(batch, full.views).numpy()
    np.testing.assert_array_equal(cut[0], pixels.tensor)
    np.testing.assert_array_equal(cut[1], 255 - pixels.tensor)

    # The float32 values, too, in torch and in ONNX Runtime.
    expected = make_sample(source, crops.views).tensor
    model, path = NormalisedViews(full).eval(), tmp_path / "views.onnx"
    np.testing.assert_array_equal(model(batch)[0].numpy(), expected)
    torch.onnx.export(model, (batch,), path, opset_version=11, dynamo=False)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert kinds <= {"Constant", "Slice", "Concat", "Reshape", "Transpose", "Cast", "Add", "Div"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    np.testing.assert_array_equal(found[0], expected)


def test_full_frames_are_the_resized_frames_in_the_order_of_the_tensor(tmp_path: Path) -> None:
    _, full, source = case("odd")
    made = make_sample(source, full.views, dtype="uint8")
    for number, planes in zip(made.frames, made.tensor, strict=True):
        (image,) = source.read([number - source.first_index])
        # 341x257 becomes 340x256, so this checks order and colours, and leaves resizing to the tests of pixels.
        blue, red = planes[0].astype(int), planes[2].astype(int)
        assert abs(blue.mean() - image[..., 2].mean()) < 1
        assert abs(red.mean() - image[..., 0].mean()) < 1


@pytest.fixture(scope="module")
def recipes(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_recipes(tmp_path_factory.mktemp("recipes"), tiny_recipe.read_text())


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of the five synthetic videos, two of which have frames of 43x32 when resized."""
    return write_list(tmp_path_factory.mktemp("lists") / "list.txt")


SIZE = "views.frame_size=43x32"


def scores_of(recipe: Path, words: list[str], store: ClipStore, work: Path) -> dict[str, np.ndarray]:
    """Return the rows of each sample, by file, after export, surgery, verification, inference and scoring."""
    words = ["--recipe", str(recipe), "--checkpoint", "seeded:0", *words]
    to_onnx([*words, "-o", str(work / "naive.onnx")])
    final = work / "new.onnx"
    modify_onnx(["-m1", str(work / "naive.onnx"), "-m2", str(final), "-bs", "2"])
    verify([*words, "--model", str(work / "naive.onnx"), str(final)])
    clips = str(store.folder / "clips")
    infer(
        InferOptions(model=final, input=clips, output=work, output_dirname="out", outfmt="NPY"),
        say=lambda _: None,
    )
    score(ScoreOptions(result_path=work / "out_summary.json", info_path=store.folder / "tiny.info"))
    entries, _ = read_summary(work / "out_summary.json")
    return {Path(entry.infiles[0]).stem: read_output(entry.outfiles[0])[0] for entry in entries}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["tsm", "i3d"])
def test_scores_are_those_of_crops(
    arch: str, recipes: dict[str, Path], annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {}
    for name, overrides, words in (
        ("float32", [], []),
        ("frames", [SIZE], ["--set", SIZE, "--input_dtype", "uint8"]),
    ):
        (tmp_path / name).mkdir()
        recipe = load_recipe(str(recipes[arch]), overrides)
        dtype = "uint8" if overrides else "float32"
        store = packed(recipe, annotations, tmp_path / name / "store", dtype=dtype, on_bad="skip")
        rows[name] = scores_of(recipes[arch], words, store, tmp_path / name)
        if overrides:
            frames = recipe.views.frames_per_crop
            assert (store.header.layout, store.header.shape) == ("frames", (frames, 3, 32, 43))
            assert store.header.normalised is False
    assert set(rows["frames"]) == {"000000", "000003"}
    for stem, row in rows["frames"].items():
        np.testing.assert_allclose(row, rows["float32"][stem], atol=1e-6, rtol=0)
    assert np.ptp(np.stack(list(rows["frames"].values())), axis=0).max() > 1e-4
    assert "FAILED" not in capsys.readouterr().out


@pytest.mark.slow
def test_real_frames_score_the_same(
    shared: Path, recipes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = tmp_path / "list.txt"
    ann.write_text("demo 280 0\npart_0 32 1\ntest 300 2\n")
    rows = {}
    for name, overrides, words in (
        ("float32", [], []),
        ("frames", [SIZE], ["--set", SIZE, "--input_dtype", "uint8"]),
    ):
        settings = [word for override in overrides for word in ("--set", override)]
        words_of_pack = ["--recipe", str(recipes["tsm"]), "--workers", "1", *settings]
        words_of_pack += ["--data_root", str(shared / "data" / "rawframes"), "--ann_file", str(ann)]
        words_of_pack += ["--dtype", "uint8" if overrides else "float32"]
        pack_main([*words_of_pack, "--output_dir", str(tmp_path / name / "store")])
        store = ClipStore.open(tmp_path / name / "store")
        rows[name] = scores_of(recipes["tsm"], words, store, tmp_path / name)
    assert set(rows["frames"]) == set(rows["float32"]) == {"000000", "000001", "000002"}
    for stem, row in rows["frames"].items():
        np.testing.assert_allclose(row, rows["float32"][stem], atol=1e-6, rtol=0)


def test_frames_of_a_different_size_are_rejected_by_name_or_skipped(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(str(recipes["tsm"]), [SIZE])
    with pytest.raises(
        BadDataError, match=r"land_427x240 measure 57x32 when resized.*--set views\.frame_size=57x32"
    ):
        packed(recipe, annotations, tmp_path / "a", dtype="uint8")
    store = packed(recipe, annotations, tmp_path / "b", dtype="uint8", on_bad="skip")
    assert [NAMES[index] for index in store.samples] == ["i3d_340x256", "one_320x240"]
    assert [skip.id for skip in store.skipped] == ["land_427x240", "odd_341x257", "port_240x427"]


def test_contradictions_with_full_frames_are_rejected(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path
) -> None:
    for overrides, message in (
        ([SIZE, "views.crop=center"], "of one crop the frames would be larger"),
        (["views.frame_size=43x40"], "shorter side must be short_side 32"),
        (["views.frame_size=43"], "must be width and height in pixels, such as 455x256"),
    ):
        with pytest.raises(UsageError, match=message):
            load_recipe(str(recipes["tsm"]), overrides)
    recipe = load_recipe(str(recipes["tsm"]), [SIZE])
    with pytest.raises(UsageError, match="--per_view writes each view separately"):
        packed(recipe, annotations, tmp_path / "a", per_view=True)
    words = ["--recipe", str(recipes["tsm"]), "--checkpoint", "seeded:0", "-o", str(tmp_path / "m.onnx")]
    with pytest.raises(UsageError, match="aipp takes crops that preprocessing cuts"):
        to_onnx([*words, "--set", SIZE, "--input_dtype", "aipp"])
    store = packed(recipe, annotations, tmp_path / "b", dtype="uint8", on_bad="skip")
    to_onnx([*words, "--input_dtype", "uint8"])
    with pytest.raises(UsageError, match=r"Export the model with --set views\.frame_size=43x32"):
        infer(InferOptions(model=tmp_path / "m.onnx", input=str(store.folder / "clips"), output=tmp_path))
