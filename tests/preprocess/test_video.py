"""Frames read from video files, against OpenCV."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from preprocess.sources.video import VideoFile
from preprocess.tensors.samples import make_sample
from vidom.errors import BadDataError
from vidom.formats.views import ViewPlan

PLAN = ViewPlan(
    num_segments=4,
    twice_sample=True,
    short_side=32,
    crop="three",
    crop_size=32,
    mean=(0, 0, 0),
    std=(1, 1, 1),
)


def write_video(
    path: Path,
    *,
    codec: str,
    size: tuple[int, int] = (86, 64),
    frames: int = 20,
    pixels: str = "yuv420p",
    jitter: int = 0,
) -> Path:
    """Write drifting noise; `jitter` varies the time between frames."""
    generator = np.random.default_rng(0)
    width, height = size
    field = cv2.resize(generator.integers(0, 256, (24, 24, 3), np.uint8), (width + frames, height + frames))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = Fraction(1, 1000 if jitter else 12)
        time = 0
        for first in range(frames):
            image = np.ascontiguousarray(field[first : first + height, first : first + width])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            time += int(generator.integers(20, 20 + jitter)) if jitter else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def opencv_frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def check_against_opencv(path: Path) -> None:
    truth = opencv_frames(path)
    video = VideoFile(path)
    assert video.total_frames == len(truth) > 0
    every = list(video.read(range(len(truth))))
    assert all(np.array_equal(one, other) for one, other in zip(every, truth, strict=True))
    some = list(range(1, len(truth), 7))
    # Without counting first, no frames are kept and the file is decoded again.
    for position, image in zip(some, VideoFile(path).read(some), strict=True):
        np.testing.assert_array_equal(image, truth[position])


@pytest.mark.parametrize(
    "name",
    [
        "part_0.mp4",
        "test.avi",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("demo.mp4", "test.mp4")),
    ],
)
def test_real_videos(shared: Path, name: str) -> None:
    check_against_opencv(shared / "data" / "videos" / name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {"codec": "libx264"}),
        ("ten_bits.mp4", {"codec": "libx264", "pixels": "yuv420p10le"}),
        ("full_colour.mp4", {"codec": "libx264", "pixels": "yuv444p", "size": (85, 63)}),
        ("uneven_times.mp4", {"codec": "libx264", "jitter": 180}),
        ("odd_size.webm", {"codec": "libvpx-vp9", "size": (85, 63)}),
        ("uneven_times.webm", {"codec": "libvpx-vp9", "jitter": 180}),
        ("odd_size.avi", {"codec": "mpeg4", "size": (83, 61)}),
        ("motion_jpeg.avi", {"codec": "mjpeg", "pixels": "yuvj422p"}),
        ("one_frame.mp4", {"codec": "libx264", "frames": 1}),
    ],
)
def test_written_videos(tmp_path: Path, name: str, options: dict) -> None:
    check_against_opencv(write_video(tmp_path / name, **options))


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_rotation_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "turned.mp4", codec="libx264")
    content = bytearray(path.read_bytes())
    # The display matrix is 44 bytes into a version 0 track header (ISO/IEC 14496-12, 8.3.2).
    at = content.index(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    check_against_opencv(path)


def test_a_video_too_long_to_keep_is_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", codec="libx264")
    kept = make_sample(VideoFile(path), PLAN)
    monkeypatch.setattr("preprocess.sources.video._KEPT_BYTES", 50_000)
    again = make_sample(VideoFile(path), PLAN)
    np.testing.assert_array_equal(kept.tensor, again.tensor)
    assert kept.frames == again.frames == (2, 7, 12, 17, 0, 5, 10, 15)


def message_of(path: Path) -> str:
    with pytest.raises(BadDataError) as caught:
        make_sample(VideoFile(path), PLAN)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"this is a text\n" * 200, np.random.default_rng(1).bytes(50_000)])
def test_a_file_that_is_not_a_video_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert "cannot be decoded as a video" in message_of(path)


def test_an_absent_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "absent.mp4")
    assert "is a folder" in message_of(tmp_path)


def test_a_truncated_video_is_reported(tmp_path: Path) -> None:
    for name, codec in (("v.mp4", "libx264"), ("v.avi", "mpeg4")):
        path = write_video(tmp_path / name, codec=codec)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "truncated" in message_of(path)


def test_an_audio_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "audio.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream" in message_of(path)


def test_a_playlist_cannot_open_other_files(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", codec="libx264")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n")
    script = tmp_path / "script.mp4"
    script.write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    for path in (playlist, script):
        assert "cannot be decoded as a video" in message_of(path)
