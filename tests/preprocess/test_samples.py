"""Decoded frames, resized frames and tensors against checksums of mmaction2's pipelines.

The checksums form a chain (frame numbers, decoded, resized, cropped, normalised), so that the first stage that
differs fails.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.frames import RawFrames
from preprocess.tensors.crops import multi_scale_crop, short_side_size
from preprocess.tensors.pipelines import frame_positions
from preprocess.tensors.pixels import crop, mirror, pixel_table, resize, split_planes, write_crop
from preprocess.tensors.samples import make_sample
from preprocess.tensors.sampling import uniform_test, uniform_train
from vidom.formats.crop_boxes import Box, center_crop, crop_boxes, three_crop
from vidom.formats.views import ViewPlan

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
COMMITTED = Path(__file__).parents[1] / "fixtures"
SHORTS = sorted(f"synth/{folder.name}" for folder in (COMMITTED / "synth").iterdir())
CENTRE = ViewPlan(num_segments=8, short_side=256, crop="center", crop_size=224, mean=MEAN, std=STD)
THREE = ViewPlan(
    num_segments=8, twice_sample=True, short_side=256, crop="three", crop_size=256, mean=MEAN, std=STD
)
PLANS = {"tsm_k400": CENTRE, "tsm_sthv2": THREE}
TABLE = pixel_table(mean=MEAN, std=STD)
Truth = dict[str, np.ndarray]


def crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array))


def crcs(arrays: Iterable[np.ndarray]) -> list[int]:
    return [crc(array) for array in arrays]


def truths_of(archive: Path, folder: str) -> dict[str, Truth]:
    """Return the records of the folder, by `frames` or `frames@seedS`."""
    records: dict[str, Truth] = {}
    with np.load(archive) as truths:
        for key in truths.files:
            name, field = key.split("|")
            if name.rpartition(":")[0] == folder:
                records.setdefault(name.rpartition(":")[2], {})[field] = truths[key]
    assert records, f"{archive.name} has no record of {folder}"
    return records


def only_truth(archive: Path, folder: str) -> tuple[RawFrames, Truth]:
    ((total, truth),) = [(int(name), truth) for name, truth in truths_of(archive, folder).items()][:1]
    return RawFrames(COMMITTED / folder, total), truth


def frames_at(source: RawFrames, numbers: np.ndarray) -> list[np.ndarray]:
    needed = np.unique(numbers)
    found = dict(zip(needed.tolist(), source.read((needed - source.first_index).tolist()), strict=True))
    return [found[number] for number in numbers.tolist()]


def short_256(image: np.ndarray) -> np.ndarray:
    return resize(image, *short_side_size(image.shape[1], image.shape[0], short_side=256))


def check_sample(source: RawFrames, plan: ViewPlan, truth: Truth) -> None:
    sample = make_sample(source, plan)
    assert list(sample.frames) == truth["frame_inds"].tolist()
    decoded = frames_at(source, truth["frame_inds"])
    assert crcs(decoded) == truth["decoded_crc32"].tolist()
    resized = [short_256(image) for image in decoded]
    assert crcs(resized) == truth["resized_crc32"].tolist()
    boxes = np.repeat(crop_boxes(resized[0].shape[1], resized[0].shape[0], plan), len(resized), axis=0)
    np.testing.assert_array_equal(boxes if plan.crop == "three" else boxes[0], truth["crop_bbox"])
    assert crcs(sample.tensor) == truth["frame_crc32"].tolist()
    assert sample.tensor.shape == plan.sample_shape == tuple(truth["out_shape"])
    assert crc(sample.tensor) == truth["out_crc32"]


@pytest.mark.parametrize("folder", SHORTS)
@pytest.mark.parametrize("config", PLANS)
def test_synthetic_samples(config: str, folder: str) -> None:
    source, truth = only_truth(COMMITTED / "mmaction2" / "synth_only" / f"pre_{config}.test.npz", folder)
    check_sample(source, PLANS[config], truth)


@pytest.mark.parametrize(
    "folder", ["rawframes/demo", "rawframes/test", "rawframes/part_0", "rawframes_short256/test"]
)
@pytest.mark.parametrize("config", PLANS)
def test_real_samples(config: str, folder: str, shared: Path) -> None:
    archive = shared / "fixtures" / "mmaction2" / f"pre_{config}.test.npz"
    ((total, truth),) = truths_of(archive, folder).items()
    check_sample(RawFrames(shared / "data" / folder, int(total)), PLANS[config], truth)


def test_frame_folders_of_which_only_a_part_is_used(shared: Path) -> None:
    for total, truth in truths_of(
        shared / "fixtures" / "mmaction2" / "pre_tsm_sthv2.test.npz", "imgs"
    ).items():
        check_sample(RawFrames(shared / "data" / "imgs", int(total)), THREE, truth)


@pytest.mark.parametrize("folder", ["synth/odd_341x257", "synth/port_240x427"])
@pytest.mark.parametrize("plan", [CENTRE, THREE])
def test_uint8_is_the_sample_before_normalisation(plan: ViewPlan, folder: str) -> None:
    source = RawFrames(COMMITTED / folder, 10)
    out = np.full(plan.sample_shape, 7, np.uint8)
    raw = make_sample(source, plan, dtype="uint8", out=out)
    assert raw.tensor is out
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (MEAN, STD))
    np.testing.assert_array_equal((out.astype(np.float32) - mean) / std, make_sample(source, plan).tensor)


def test_bgr_reverses_planes_and_keeps_their_statistics() -> None:
    source = RawFrames(COMMITTED / "synth/square_256x256", 9)
    reverse = {"colour": "bgr", "mean": MEAN[::-1], "std": STD[::-1]}
    bgr = make_sample(source, CENTRE.model_copy(update=reverse)).tensor
    np.testing.assert_array_equal(bgr[:, ::-1], make_sample(source, CENTRE).tensor)


def test_dense_plan_reads_ten_windows() -> None:
    plan = CENTRE.model_copy(update={"sampling": "dense"})
    source = RawFrames(COMMITTED / "synth/i3d_340x256", 70)
    with np.load(COMMITTED / "mmaction2" / "sampling.npz") as truths:
        row = truths["tsm8_dense_test/start0"][truths["totals"] == 70][0]
    np.testing.assert_array_equal(frame_positions(source, plan), row)
    assert make_sample(source, plan, dtype="uint8").tensor.shape == (80, 3, 224, 224)


def test_normalisation_table(fixtures: Path) -> None:
    with np.load(fixtures / "mmaction2" / "normalize_lut.npz") as truths:
        np.testing.assert_array_equal(TABLE.T, truths["lut"])


def clip_tensor(resized: list[np.ndarray], box: Box, size: int) -> np.ndarray:
    """Return the [3, T, H, W] tensor of one view of a 3D network."""
    frames = np.empty((len(resized), 3, size, size), np.float32)
    for planes, target in zip(split_planes(resized, colour="rgb"), frames, strict=True):
        write_crop(planes, box, TABLE, target)
    return frames.transpose(1, 0, 2, 3)


def test_i3d_centre_views() -> None:
    for folder in SHORTS:
        source, truth = only_truth(COMMITTED / "mmaction2/synth_only/pre_i3d_k400.val.npz", folder)
        numbers = uniform_test(source.total_frames, num_clips=1, clip_len=32, frame_interval=2, start_index=1)
        assert numbers.tolist() == truth["frame_inds"].tolist()
        resized = [short_256(image) for image in frames_at(source, numbers)]
        box = center_crop(resized[0].shape[1], resized[0].shape[0], size=224)
        assert crc(clip_tensor(resized, box, 224)) == truth["out_crc32"]


def test_i3d_thirty_views() -> None:
    source, truth = only_truth(COMMITTED / "mmaction2/synth_only/pre_i3d_k400.test.npz", "synth/i3d_340x256")
    numbers = uniform_test(70, num_clips=10, clip_len=32, frame_interval=2, start_index=1)
    resized = [short_256(image) for image in frames_at(source, numbers)]
    clips = [resized[first : first + 32] for first in range(0, 320, 32)]
    views = [crc(clip_tensor(clip, box, 256)) for box in three_crop(340, 256, size=256) for clip in clips]
    assert views == truth["frame_crc32"].tolist()


TRAIN = {
    "tsm_sthv2": (
        {"num_clips": 8},
        {"scales": (1, 0.875, 0.75, 0.66), "max_scale_gap": 1, "num_fixed_crops": 13},
    ),
    "tsm_k400": (
        {"num_clips": 8},
        {"scales": (1, 0.875, 0.75, 0.66), "max_scale_gap": 1, "num_fixed_crops": 13},
    ),
    "i3d_k400": (
        {"num_clips": 1, "clip_len": 32, "frame_interval": 2},
        {"scales": (1, 0.8), "max_scale_gap": 0, "num_fixed_crops": 5},
    ),
}


@pytest.mark.parametrize(
    "folder", ["synth/land_427x240", "synth/one_320x240", "synth/port_240x427", "synth/short_176x144"]
)
@pytest.mark.parametrize("config", TRAIN)
def test_training_samples_match_the_original_for_the_same_seeds(config: str, folder: str) -> None:
    sampling, scaling = TRAIN[config]
    archive = COMMITTED / "mmaction2" / "synth_only" / f"pre_{config}.train.npz"
    records = truths_of(archive, folder)
    assert len(records) == 3
    for name, truth in records.items():
        total, seed = (int(number) for number in name.split("@seed"))
        generator = np.random.RandomState(seed)
        numbers = uniform_train(total, generator, **sampling, start_index=1)
        assert numbers.tolist() == truth["frame_inds"].tolist()
        resized = [short_256(image) for image in frames_at(RawFrames(COMMITTED / folder, total), numbers)]
        height, width = resized[0].shape[:2]
        box = multi_scale_crop(width, height, random.Random(seed), size=224, **scaling)
        assert list(box) == truth["crop_bbox"].tolist()
        scaled = [resize(crop(image, box), 224, 224) for image in resized]
        assert crcs(scaled) == truth["resized2_crc32"].tolist()
        if "flip" in truth:
            flips = generator.rand() < 0.5
            assert flips == truth["flip"]
            scaled = [mirror(image) if flips else image for image in scaled]
        tensor = clip_tensor(scaled, Box(0, 0, 224, 224), 224)
        assert crc(tensor if config.startswith("i3d") else tensor.transpose(1, 0, 2, 3)) == truth["out_crc32"]
