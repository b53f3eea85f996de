"""The test pipelines of PaddleVideo and MindSpore against frames and tensors of the originals.

mmaction2's pipeline is compared in test_samples.py and test_clips.py.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from preprocess.sources.frame_pack import PackedFrames
from preprocess.sources.frames import RawFrames
from preprocess.sources.image_files import decode_with_pillow
from preprocess.sources.video import VideoFile
from preprocess.tensors.pipelines import PIPELINES
from preprocess.tensors.samples import PreparedSample, make_sample
from preprocess.tensors.sampling import uniform_middles
from vidom.formats.recipe import load_recipe
from vidom.formats.views import Pipeline, ViewPlan

COMMITTED = ("small096x072_000011_000021", "tiny003frame_000004_000014")
IN_SHARED = (
    "demo-_340256_000000_000010",
    "land0320x240_000000_000010",
    "port0180x320_000002_000012",
    "tall256x400__000008_000018",
)
PLANS = {
    layout: load_recipe("stnet_k400", [f"views.layout={layout}"]).views for layout in ("stacked", "planes")
}


def test_every_pipeline_of_the_recipes_has_a_record() -> None:
    assert set(PIPELINES) == set(get_args(Pipeline))
    assert {name: steps.library for name, steps in PIPELINES.items()} == {
        "mmaction2": "opencv",
        "paddlevideo": "pillow",
        "mindspore": "pillow",
    }


@pytest.mark.parametrize(
    ("pipeline", "landscape", "square"),
    [
        ("mmaction2", (364, 256), (256, 256)),
        ("paddlevideo", (341, 256), (256, 341)),
        ("mindspore", (341, 256), (341, 256)),
    ],
)
def test_sizes_of_resized_frames(
    pipeline: Pipeline, landscape: tuple[int, int], square: tuple[int, int]
) -> None:
    size = PIPELINES[pipeline].size
    # 340 x 239: the aspect ratio is kept or squeezed to 4:3.
    assert size(340, 239, short_side=256) == landscape
    assert size(100, 100, short_side=256) == square


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_normalisation_is_on_the_scale_of_the_view_plan(pipeline: Pipeline) -> None:
    plan = ViewPlan(
        pipeline=pipeline,
        num_segments=1,
        short_side=8,
        crop="center",
        crop_size=8,
        mean=(0.5, 0.25, 0),
        std=(2, 1, 0.5),
    )
    table = PIPELINES[pipeline].pixel_table(mean=plan.mean, std=plan.std)
    values = np.arange(256) / plan.pixel_scale
    expected = [(values - mean) / std for mean, std in zip(plan.mean, plan.std, strict=True)]
    np.testing.assert_allclose(table, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_decodes_in_worker_processes(pipeline: Pipeline, fixtures: Path) -> None:
    source = RawFrames(fixtures / "synth" / "one_320x240", 1, decode=PIPELINES[pipeline].decode_image)
    (expected,) = source.read([0])
    (image,) = pickle.loads(pickle.dumps(source)).read([0])
    np.testing.assert_array_equal(image, expected)


@pytest.fixture(scope="module")
def truth(fixtures: Path) -> dict[str, Any]:
    """Checksums of every stage of the original on example.avi, and the geometry of twenty frame sizes."""
    return json.loads((fixtures / "paddle" / "preprocess.json").read_text())


def digest(tensor: np.ndarray) -> str:
    return hashlib.sha256(tensor.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def video(shared: Path) -> VideoFile:
    return VideoFile(shared / "data" / "paddle" / "example.avi")


@pytest.fixture(scope="module")
def frames(shared: Path) -> RawFrames:
    return RawFrames(shared / "data" / "paddle" / "rawframes" / "example", 131, decode=decode_with_pillow)


@pytest.mark.parametrize(
    ("name", "source", "recipe", "overrides"),
    [
        ("videos_uniform_test", "video", "pptsm_k400_uniform", ()),
        ("videos_uniform_test_16", "video", "pptsm_k400_uniform", ("views.num_segments=16",)),
        ("frames_uniform_test", "frames", "pptsm_k400_uniform", ()),
        pytest.param("frames_dense_test", "frames", "pptsm_k400_dense", (), marks=pytest.mark.slow),
    ],
)
def test_frames_and_tensors_match_paddlevideo_bit_for_bit(
    request: pytest.FixtureRequest,
    truth: dict[str, Any],
    name: str,
    source: str,
    recipe: str,
    overrides: tuple[str, ...],
) -> None:
    plan = load_recipe(recipe, overrides).views
    sample = make_sample(request.getfixturevalue(source), plan)
    assert list(sample.frames) == truth[name]["frames_idx"]
    assert digest(sample.tensor) == truth[name]["sha256_float32"]
    pixels = make_sample(request.getfixturevalue(source), plan, dtype="uint8").tensor
    crops = "GroupFullResSample" if plan.crop == "three" else "CenterCrop"
    assert f"{zlib.crc32(pixels.transpose(0, 2, 3, 1).tobytes()):08x}" == truth[name]["crc32"][crops]


def test_decoded_frames_match_the_reference(
    truth: dict[str, Any], video: VideoFile, frames: RawFrames
) -> None:
    for name, source in (("videos_uniform_test", video), ("frames_uniform_test", frames)):
        decoded = np.stack(list(source.read(uniform_middles(131, num_segments=8).tolist())))
        assert f"{zlib.crc32(decoded.tobytes()):08x}" == truth[name]["crc32"]["Sampler"]


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mindspore"


def check_against_truth(sample: PreparedSample, truths: Path, name: str) -> None:
    with np.load(truths / "preprocess_eval.npz") as archive:
        truth = {key.rpartition("/")[2]: archive[key] for key in archive.files if f"/{name}/" in key}
    assert sample.frames == tuple(truth["indices"].tolist())
    assert (1, *sample.tensor.shape) == tuple(truth["tensor_shape"])
    np.testing.assert_allclose(sample.tensor[:, :, ::32, ::32], truth["sub32"], rtol=0, atol=4e-2)
    # The bits depend only on the JPEG decoder, which is Pillow's in both cases.
    assert zlib.crc32(sample.tensor.tobytes()) == truth["tensor_crc32"]


@pytest.mark.parametrize("name", COMMITTED)
def test_tensors_match_stnet_bit_for_bit(truths: Path, name: str) -> None:
    check_against_truth(make_sample(PackedFrames(truths / f"{name}.pkl"), PLANS["stacked"]), truths, name)


@pytest.mark.parametrize("name", IN_SHARED)
def test_tensors_of_larger_videos_match_stnet_bit_for_bit(truths: Path, shared: Path, name: str) -> None:
    pack = PackedFrames(shared / f"data/stnet/pkl/{name}.pkl")
    check_against_truth(make_sample(pack, PLANS["stacked"]), truths, name)


def test_layout_planes_holds_the_same_frames_channel_by_channel(truths: Path) -> None:
    pack = PackedFrames(truths / f"{COMMITTED[1]}.pkl")
    frames = make_sample(pack, PLANS["stacked"]).tensor.reshape(35, 3, 224, 224)
    np.testing.assert_array_equal(make_sample(pack, PLANS["planes"]).tensor, frames.transpose(1, 0, 2, 3))
