"""Clips of 3D networks against frame numbers and checksums of mmaction2's pipelines.

The checksums form a chain (frame numbers, decoded, resized, views, sample), so that the first stage that
differs fails.
"""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.sources.frames import FrameSource, RawFrames
from preprocess.sources.image_files import Image
from preprocess.tensors.clips import clip_views, read_clips
from preprocess.tensors.crops import short_side_size
from preprocess.tensors.pipelines import frame_positions
from preprocess.tensors.pixels import resize
from preprocess.tensors.samples import make_sample
from vidom.errors import BadDataError
from vidom.formats.crop_boxes import three_crop
from vidom.formats.views import ViewPlan

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
COMMITTED = Path(__file__).parents[1] / "fixtures"
SYNTHETIC = sorted(f"synth/{folder.name}" for folder in (COMMITTED / "synth").iterdir())
THIRTY = ViewPlan(
    num_segments=10,
    clip_len=32,
    frame_interval=2,
    short_side=256,
    crop="three",
    crop_size=256,
    mean=MEAN,
    std=STD,
    layout="NCTHW",
)
CENTRE = THIRTY.model_copy(update={"num_segments": 1, "crop": "center", "crop_size": 224})
DENSE = THIRTY.model_copy(update={"num_segments": 1, "sampling": "dense"})
# 30 views as well, of 1.5 MB each.
TINY = THIRTY.model_copy(update={"short_side": 64, "crop_size": 64})


@dataclass(eq=False)
class Watched:
    """A source that records which frames were read."""

    source: RawFrames
    requested: list[list[int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def total_frames(self) -> int:
        return self.source.total_frames

    @property
    def first_index(self) -> int:
        return self.source.first_index

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        self.requested.append(list(positions))
        return self.source.read(self.requested[-1])


def clip_positions(source: FrameSource, plan: ViewPlan) -> np.ndarray:
    return frame_positions(source, plan).reshape(-1, plan.clip_len)


def crc(array: np.ndarray, start: int = 0) -> int:
    return zlib.crc32(np.ascontiguousarray(array), start)


def synthetic(folder: str) -> RawFrames:
    return RawFrames(COMMITTED / folder, len(list((COMMITTED / folder).iterdir())))


def truth_of(archive: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(archive) as truths:
        found = {key.split("|")[1]: truths[key] for key in truths.files if key.split("|")[0] == name}
    assert found, f"{archive.name} has no record of {name}"
    return found


def check_chain(source: RawFrames, plan: ViewPlan, truth: dict[str, np.ndarray]) -> None:
    crops = read_clips(source, plan)
    assert list(crops.frames) == truth["frame_inds"].tolist()
    needed, first = np.unique(truth["frame_inds"], return_index=True)
    decoded = list(source.read((needed - source.first_index).tolist()))
    assert list(map(crc, decoded)) == truth["decoded_crc32"][first].tolist()
    size = short_side_size(decoded[0].shape[1], decoded[0].shape[0], short_side=256)
    assert [crc(resize(image, *size)) for image in decoded] == truth["resized_crc32"][first].tolist()
    views, sample = [], 0
    for view in clip_views(crops, plan):
        assert view.shape == tuple(truth["out_shape"][1:])
        views.append(crc(view))
        sample = crc(view, sample)
    assert views == truth["frame_crc32"].tolist()
    assert sample == truth["out_crc32"]


@pytest.mark.parametrize("folder", SYNTHETIC)
def test_synthetic_centre_views(folder: str) -> None:
    source = synthetic(folder)
    archive = COMMITTED / "mmaction2" / "synth_only" / "pre_i3d_k400.val.npz"
    check_chain(source, CENTRE, truth_of(archive, f"{folder}:{source.total_frames}"))


# Landscape with ten different clips, portrait, odd width, a single frame.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d_340x256", "port_240x427", "odd_341x257", "one_320x240"])
def test_synthetic_thirty_views(name: str) -> None:
    folder = f"synth/{name}"
    source = synthetic(folder)
    archive = COMMITTED / "mmaction2" / "synth_only" / "pre_i3d_k400.test.npz"
    check_chain(source, THIRTY, truth_of(archive, f"{folder}:{source.total_frames}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rawframes/demo:280", "rawframes/part_0:32"])
def test_real_thirty_views(shared: Path, name: str) -> None:
    folder, total = name.split(":")
    archive = shared / "fixtures" / "mmaction2" / "pre_i3d_k400.test.npz"
    check_chain(RawFrames(shared / "data" / folder, int(total)), THIRTY, truth_of(archive, name))


def test_real_centre_view(shared: Path) -> None:
    archive = shared / "fixtures" / "mmaction2" / "pre_i3d_k400.val.npz"
    check_chain(
        RawFrames(shared / "data/rawframes/test", 300), CENTRE, truth_of(archive, "rawframes/test:300")
    )


@pytest.mark.parametrize(
    ("mode", "plan"),
    [
        ("i3d_test", THIRTY),
        ("i3d_val", CENTRE),
        ("i3d_dense_test", DENSE),
        ("i3d_test_twice", THIRTY.model_copy(update={"twice_sample": True})),
        ("i3d_heavy_test", THIRTY.model_copy(update={"clip_len": 8, "frame_interval": 8})),
    ],
)
def test_positions_at_every_length(mode: str, plan: ViewPlan) -> None:
    with np.load(COMMITTED / "mmaction2" / "sampling.npz") as truths:
        totals, rows = truths["totals"], truths[f"{mode}/start0"]
    assert len(totals) > 200
    for total, row in zip(totals.tolist(), rows, strict=True):
        positions = clip_positions(RawFrames(Path("unread"), total), plan)
        assert positions.shape[1] == plan.clip_len
        np.testing.assert_array_equal(positions.ravel(), row[row >= 0], err_msg=f"{mode} of {total} frames")


def test_every_frame_is_read_once_and_kept_once() -> None:
    watched = Watched(synthetic("synth/i3d_340x256"))
    crops = read_clips(watched, TINY)
    needed = clip_positions(watched, TINY)
    assert watched.requested == [sorted(set(needed.ravel().tolist()))]
    assert crops.pixels.shape == (3, len(watched.requested[0]), 3, 64, 64)
    assert crops.frames == tuple((needed.ravel() + 1).tolist())


def expected_view(source: RawFrames, positions: np.ndarray, crop: int) -> np.ndarray:
    """Return one view by array arithmetic: resize, crop, normalise, channels before time."""
    frames = []
    for position in positions.tolist():
        (image,) = source.read([position])
        width, height = short_side_size(image.shape[1], image.shape[0], short_side=64)
        left, top, right, bottom = three_crop(width, height, size=64)[crop]
        frames.append(cv2.resize(image, (width, height))[top:bottom, left:right])
    clip = np.stack(frames).astype(np.float32)
    return ((clip - np.float32(MEAN)) / np.float32(STD)).transpose(3, 0, 1, 2)


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_views_are_crop_by_crop_and_within_it_clip_by_clip(sampling: str) -> None:
    plan = TINY.model_copy(update={"sampling": sampling, "num_segments": 1 if sampling == "dense" else 10})
    source = synthetic("synth/i3d_340x256")
    positions = clip_positions(source, plan)
    crops = read_clips(source, plan)
    assert crops.views == 30
    for number, view in enumerate(clip_views(crops, plan)):
        if number in (0, 9, 10, 16, 29):
            np.testing.assert_array_equal(view, expected_view(source, positions[number % 10], number // 10))


def test_the_tensor_of_a_sample_consists_of_its_views() -> None:
    source = synthetic("synth/port_240x427")
    out = np.full(TINY.sample_shape, 7, np.float32)
    made = make_sample(source, TINY, out=out)
    crops = read_clips(source, TINY)
    assert made.tensor is out
    assert made.frames == crops.frames
    np.testing.assert_array_equal(out, np.stack(list(clip_views(crops, TINY))))


def test_uint8_is_the_view_before_normalisation() -> None:
    source = synthetic("synth/odd_341x257")
    raw = np.stack(list(clip_views(read_clips(source, TINY), TINY, dtype="uint8")))
    mean, std = (np.array(numbers, np.float32)[:, None, None, None] for numbers in (MEAN, STD))
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal((raw.astype(np.float32) - mean) / std, make_sample(source, TINY).tensor)


def test_bgr_reverses_channels() -> None:
    source = synthetic("synth/square_256x256")
    reverse = TINY.model_copy(update={"colour": "bgr", "mean": MEAN[::-1], "std": STD[::-1]})
    np.testing.assert_array_equal(
        make_sample(source, reverse).tensor[:, ::-1], make_sample(source, TINY).tensor
    )


def test_streaming_holds_one_view_at_a_time() -> None:
    crops = read_clips(synthetic("synth/i3d_340x256"), TINY)
    one_view = 3 * 32 * 64 * 64 * 4
    tracemalloc.start()
    for _view in clip_views(crops, TINY):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The caller still holds one view while the next is made.
    assert one_view < peak < 2.5 * one_view


def test_a_video_without_frames_is_rejected() -> None:
    with pytest.raises(BadDataError, match="has 0 frames"):
        read_clips(RawFrames(Path("empty"), 0), TINY)


def test_frames_of_different_sizes_are_rejected(tmp_path: Path) -> None:
    for number, folder in enumerate(["small_100x76", "small_100x76", "odd_341x257"], start=1):
        frame = COMMITTED / "synth" / folder / "img_00001.jpg"
        (tmp_path / f"img_{number:05}.jpg").write_bytes(frame.read_bytes())
    with pytest.raises(BadDataError, match="Frame 3 of .* measures 341x257, the frames before it 100x76"):
        read_clips(RawFrames(tmp_path, 3), TINY)
