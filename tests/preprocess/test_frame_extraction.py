"""One video to a folder of frames, against OpenCV's VideoCapture and imwrite."""

from __future__ import annotations

import pickle
import resource
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from small_videos import cut, opencv_frames, tree, write_video, write_without_frames

from preprocess.datasets.frame_extraction import ExtractionJob, ExtractionSettings, extract_frames, new_size
from vidom.errors import UsageError


def job(video: Path, **options) -> ExtractionJob:
    return ExtractionJob("v", video, video.parent / "frames" / "v", ExtractionSettings(**options))


def as_original(frame: np.ndarray, short: int | None) -> np.ndarray:
    """build_rawframes.py: int((new_short / h) * w), truncated, not rounded."""
    if not short:
        return frame
    height, width = frame.shape[:2]
    if height < width:
        return cv2.resize(frame, (int(short / height * width), short))
    return cv2.resize(frame, (short, int(short / width * height)))


@pytest.mark.parametrize("decoder", ["pyav", "opencv"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v.webm", {}),
        ("v.avi", {"quality": 40}),
        ("v.mp4", {"short_side": 17}),
        ("tall.mp4", {"short_side": 31}),
    ],
)
def test_the_files_match_opencv(tmp_path: Path, name: str, options: dict, decoder: str) -> None:
    video = write_video(tmp_path / name, size=(26, 38) if name == "tall.mp4" else (46, 30), frames=11)
    result = extract_frames(job(video, decoder=decoder, **options))
    frames = opencv_frames(video)
    assert (result.id, result.frames, result.reason) == ("v", 11, None)
    for number, frame in enumerate(frames, 1):
        truth = tmp_path / "truth.jpg"
        cv2.imwrite(
            str(truth),
            as_original(frame, options.get("short_side")),
            [cv2.IMWRITE_JPEG_QUALITY, options.get("quality", 95)],
        )
        assert (tmp_path / "frames" / "v" / f"img_{number:05d}.jpg").read_bytes() == truth.read_bytes()
    assert len(tree(tmp_path / "frames")) == 11


@pytest.mark.parametrize(
    ("width", "height", "short", "size"),
    [
        (340, 256, 256, (340, 256)),
        (427, 240, 256, (455, 256)),
        (240, 427, 256, (256, 455)),
        (9, 9, 4, (4, 4)),
    ],
)
def test_sizes_are_truncated_not_rounded(width: int, height: int, short: int, size: tuple[int, int]) -> None:
    assert new_size(width, height, short_side=short) == size


@pytest.mark.parametrize("decoder", ["pyav", "opencv"])
def test_an_unreadable_video_gives_a_reason_and_no_folder(tmp_path: Path, decoder: str) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video " * 100)
    (tmp_path / "empty.mp4").touch()
    broken = {
        cut(write_video(tmp_path / "a.webm", frames=30)): "truncated",
        cut(write_video(tmp_path / "a.avi", frames=30)): "truncated",
        cut(write_video(tmp_path / "a.mp4", frames=30)): "truncated",
        write_without_frames(tmp_path / "none.webm"): "cannot be decoded|no frames",
        tmp_path / "empty.mp4": "cannot be decoded",
        text: "cannot be decoded",
        tmp_path / "absent.mp4": "does not exist",
    }
    for video, reason in broken.items():
        result = extract_frames(job(video, decoder=decoder))
        assert result.frames == 0
        assert str(video) in (result.reason or "")
        assert any(part in (result.reason or "") for part in reason.split("|")), result.reason
        assert not any((tmp_path / "frames").iterdir())


def test_leftovers_of_an_interrupted_run_are_removed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.webm")
    leftover = tmp_path / "frames" / "v.part"
    leftover.mkdir(parents=True)
    (leftover / "img_00099.jpg").write_bytes(b"old")
    extract_frames(job(video))
    assert sorted(tree(tmp_path / "frames")) == [f"v/img_{number:05}.jpg" for number in range(1, 9)]


def test_a_failed_write_is_an_error_and_not_an_unreadable_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.webm")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Fewer bytes than a frame has; OpenCV's imwrite still reports success.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            extract_frames(job(video))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any((tmp_path / "frames").iterdir())


@pytest.mark.parametrize("decoder", ["pyav", "opencv"])
def test_a_playlist_cannot_open_other_files(tmp_path: Path, decoder: str) -> None:
    video = write_video(tmp_path / "v.mp4")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n")
    script = tmp_path / "script.mp4"
    script.write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    for path in (playlist, script):
        result = extract_frames(job(path, decoder=decoder))
        assert "cannot be decoded as a video" in (result.reason or "")


def test_jobs_and_results_can_be_pickled(tmp_path: Path) -> None:
    made = job(write_video(tmp_path / "v.webm"), short_side=20)
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    result = extract_frames(again)
    assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 0},
        {"quality": 101},
        {"short_side": -1},
        {"fps": 0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"fps": 5, "decoder": "opencv"},
    ],
)
def test_invalid_settings_are_rejected(options: dict) -> None:
    with pytest.raises(UsageError):
        ExtractionSettings(**options)


def test_the_record_names_the_decoder_version() -> None:
    record = ExtractionSettings(decoder="opencv").record()
    assert record["decoder_version"] == f"OpenCV {cv2.__version__}"
    assert ExtractionSettings(decoder="pyav").record()["decoder_version"] == f"PyAV {av.__version__}"
