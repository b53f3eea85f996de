"""From packs of JPEG frames to StNet's super-images, against the original's indices, geometry and tensors."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from preprocess.datasets.sample_list import pack_names, read_pack_annotations
from preprocess.sources.frame_pack import FramePack, PackedFrames, read_frame_pack, read_pack_label
from preprocess.sources.jpeg import decode_with_pillow
from preprocess.tensors.pillow_pixels import four_by_three
from preprocess.tensors.samples import PreparedSample, make_sample
from preprocess.tensors.sampling import segment_runs, segment_runs_train
from vidom.errors import BadDataError
from vidom.formats.crop_boxes import rounded_center_crop
from vidom.formats.recipe import load_recipe

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


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Path:
    return fixtures / "mindspore"


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], Path]:
    def store(content: bytes) -> Path:
        path = tmp_path / "video.pkl"
        path.write_bytes(content)
        return path

    return store


def jpeg(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (shade, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(("segments", "length"), [(7, 5), (25, 5), (3, 5), (7, 1), (8, 4)])
def test_runs_are_the_originals_for_every_length(truths: Path, segments: int, length: int) -> None:
    with np.load(truths / "frame_indices.npz") as archive:
        expected = archive[f"eval_T{segments}_N{length}"]
    for total in range(1, 301):
        found = segment_runs(total, num_segments=segments, run_length=length)
        np.testing.assert_array_equal(found, expected[total - 1], err_msg=str(total))


def test_runs_of_long_videos_are_the_originals(truths: Path) -> None:
    with np.load(truths / "frame_indices.npz") as archive:
        for total, expected in zip(archive["long_lengths"], archive["long_eval_T7_N5"], strict=True):
            found = segment_runs(int(total), num_segments=7, run_length=5)
            np.testing.assert_array_equal(found, expected, err_msg=str(total))


def test_random_runs_draw_as_the_original_does(truths: Path) -> None:
    with np.load(truths / "frame_indices.npz") as archive:
        for total, expected in enumerate(archive["train_T7_N5_seed_is_length"], 1):
            found = segment_runs_train(total, random.Random(total), num_segments=7, run_length=5)
            np.testing.assert_array_equal(found, expected, err_msg=str(total))


def test_sizes_and_crops_are_the_originals(truths: Path) -> None:
    for name, expected in json.loads((truths / "geometry.json").read_text()).items():
        size = four_by_three(*map(int, name.split("x")), short_side=256, wide_square=True)
        box = rounded_center_crop(*size, size=224)
        assert {"scaled": list(size), "crop": [box.left, box.top]} == expected, name


def check_against_truth(sample: PreparedSample, truths: Path, name: str) -> None:
    with np.load(truths / "preprocess_eval.npz") as archive:
        truth = {key.rpartition("/")[2]: archive[key] for key in archive.files if f"/{name}/" in key}
    assert sample.frames == tuple(truth["indices"].tolist())
    assert (1, *sample.tensor.shape) == tuple(truth["tensor_shape"])
    np.testing.assert_allclose(sample.tensor[:, :, ::32, ::32], truth["sub32"], rtol=0, atol=4e-2)
    # The bits depend on the JPEG decoder alone, which is Pillow's here as there.
    assert zlib.crc32(sample.tensor.tobytes()) == truth["tensor_crc32"]


@pytest.mark.parametrize("name", COMMITTED)
def test_tensors_are_the_originals_bit_for_bit(truths: Path, name: str) -> None:
    check_against_truth(make_sample(PackedFrames(truths / f"{name}.pkl"), PLANS["stacked"]), truths, name)


@pytest.mark.parametrize("name", IN_SHARED)
def test_tensors_of_larger_videos_are_the_originals_bit_for_bit(
    truths: Path, shared: Path, name: str
) -> None:
    pack = PackedFrames(shared / f"data/stnet/pkl/{name}.pkl")
    check_against_truth(make_sample(pack, PLANS["stacked"]), truths, name)


def test_planes_are_the_same_frames_colour_by_colour(truths: Path) -> None:
    pack = PackedFrames(truths / f"{COMMITTED[1]}.pkl")
    frames = make_sample(pack, PLANS["stacked"]).tensor.reshape(35, 3, 224, 224)
    np.testing.assert_array_equal(make_sample(pack, PLANS["planes"]).tensor, frames.transpose(1, 0, 2, 3))


def test_packs_of_python_2_and_3_hold_the_same(truths: Path, shared: Path) -> None:
    theirs = read_frame_pack(shared / "data/stnet/pkl_py2_tiny003frame.pkl")
    ours = read_frame_pack(truths / f"{COMMITTED[1]}.pkl")
    assert theirs == ours
    assert read_pack_label(shared / "data/stnet/pkl_py2_tiny003frame.pkl") == ours.label == 5


@pytest.mark.parametrize("frames", [[jpeg()], [jpeg(shade) for shade in range(300)], [jpeg(), b"", jpeg()]])
@pytest.mark.parametrize("label", [0, 399, 70_000])
def test_packs_are_what_pickle_reads(
    stored: Callable[[bytes], Path], frames: list[bytes], label: int
) -> None:
    path = stored(pickle.dumps(("./clip", label, frames), protocol=2))
    assert read_frame_pack(path) == FramePack("./clip", label, tuple(frames))
    assert read_pack_label(path) == label


def test_a_pack_without_frames_says_why_it_may_be_so(stored: Callable[[bytes], Path]) -> None:
    with pytest.raises(BadDataError, match="if ffmpeg fails"):
        read_frame_pack(stored(pickle.dumps(("./clip", 3, []), protocol=2)))


class Command:
    """What a pickle that runs a command is made of."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self.call = target, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def pickled(value: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol=protocol)


TEXT = b"X\x03\x00\x00\x00abc"
# A text of a megabyte, encoded again and again from the memo.
BOMB = (
    b"\x80\x02X\x01\x00\x00\x00vq\x00K\x01](c_codecs\nencode\nq\x01X\x00\x00\x10\x00" + b"a" * (1 << 20)
) + (b"q\x02X\x06\x00\x00\x00latin1q\x03\x86R" + b"h\x01h\x02h\x03\x86R" * 20_000 + b"e\x87.")
HOSTILE = {
    "a command": pickled(("v", 1, [Command(os.system, "touch pwned")])),
    "eval": pickled(Command(eval, "open('pwned', 'w')")),
    "another encoding": pickled(("v", 1, [jpeg()])).replace(b"latin1", b"utf-16"),
    "another codec function": pickled(("v", 1, [jpeg()])).replace(b"_codecs\nencode", b"_codecs\ndecode"),
    "protocol 4": pickled(("v", 1, [jpeg()]), protocol=4),
    "frames as numbers": pickled(("v", 1, [1, 2])),
    "a negative label": pickled(("v", -1, [jpeg()])),
    "label and frames only": pickled((1, [jpeg()])),
    "no pickle": b"RIFF" + bytes(100),
    "nothing": b"",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xff" + b"a" * 100,
    "a call without arguments": b"\x80\x02c_codecs\nencode\nR.",
    "a memo that was never kept": b"\x80\x02h\x05.",
    "items without a mark": b"\x80\x02]" + TEXT + b"e.",
    "a million operations": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "the same bytes over and over": BOMB,
    "truncated": pickled(("v", 1, [jpeg()]))[:-40],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packs_are_bad_data_and_run_nothing(
    stored: Callable[[bytes], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(HOSTILE[name])
    monkeypatch.chdir(path.parent)
    with pytest.raises(BadDataError, match=r"video\.pkl"):
        read_frame_pack(path)
    assert list(path.parent.iterdir()) == [path]


def test_damaged_packs_are_read_or_refused(truths: Path, stored: Callable[[bytes], Path]) -> None:
    whole = pickled(("./clip", 7, [b"\xff\xd8" + bytes(20), b"\xff\xd8" + bytes(range(40))]))
    generator, refused = random.Random(0), 0
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        try:
            read_frame_pack(stored(bytes(content)))
        except BadDataError:
            refused += 1
    assert 100 < refused < 500


@pytest.mark.parametrize(
    "content", [b"", b"no JPEG", jpeg()[:200], jpeg()[:-30], jpeg()[:2] + bytes(300), b"\x89PNG\r\n\x1a\n"]
)
def test_damaged_frames_are_bad_data(content: bytes) -> None:
    with pytest.raises(BadDataError, match="frame 3 of it"):
        decode_with_pillow(content, name="3 of it")


def test_lists_name_packs_whose_labels_are_read(truths: Path, tmp_path: Path) -> None:
    ann_file = tmp_path / "val.json"
    ann_file.write_text(json.dumps([{"video_name": f"{name}.mp4"} for name in COMMITTED]))
    (tmp_path / "val").symlink_to(truths)
    annotations = read_pack_annotations(ann_file, data_root=tmp_path, folder="val", num_classes=400)
    assert [(entry.id, entry.path, entry.label) for entry in annotations] == [
        (COMMITTED[0], f"val/{COMMITTED[0]}.pkl", 15),
        (COMMITTED[1], f"val/{COMMITTED[1]}.pkl", 5),
    ]
    with pytest.raises(BadDataError, match="label 15"):
        read_pack_annotations(ann_file, data_root=tmp_path, folder="val", num_classes=15)


def test_the_originals_own_list_is_read(shared: Path) -> None:
    names = pack_names(shared / "data/stnet/val.json")
    assert len(names) == 12
    assert names[0] == "demo-_340256_000000_000010"


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        ["x.mp4"],
        [{"video": "x.mp4"}],
        [{"video_name": 3}],
        [{"video_name": ".mp4"}],
        [{"video_name": "../../x.mp4"}],
        [{"video_name": "/etc/passwd.mp4"}],
        [{"video_name": "x.mp4"}, {"video_name": "x.avi"}],
    ],
)
def test_other_lists_are_refused(tmp_path: Path, document: Any) -> None:
    ann_file = tmp_path / "val.json"
    ann_file.write_text(json.dumps(document))
    with pytest.raises(BadDataError, match=r"val\.json"):
        pack_names(ann_file)
