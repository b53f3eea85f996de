"""Decoding at a constant frame rate, against FFmpeg's fps filter."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from small_videos import write_video

from preprocess.sources.decoding import decode
from vidom.errors import BadDataError


def fps_filter(path: Path, fps: float) -> list[np.ndarray]:
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        rate, sink = graph.add("fps", f"fps={fps}"), graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    made = graph.pull()
                except (av.BlockingIOError, av.EOFError):
                    break
                frames.append(made.reformat(format="bgr24", interpolation="BICUBIC").to_ndarray())
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("fps", [5, 12, 29.97, 60])
@pytest.mark.parametrize("name", ["v.webm", "v.avi", "v.mp4"])
def test_a_constant_frame_rate_matches_ffmpeg(tmp_path: Path, name: str, fps: float) -> None:
    video = write_video(tmp_path / name, frames=25)
    truth = fps_filter(video, fps)
    frames = list(decode(video, decoder="pyav", fps=fps))
    assert len(frames) == len(truth) > 0
    assert all(np.array_equal(one, other) for one, other in zip(frames, truth, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("fps", [7, 25, 60])
def test_a_constant_frame_rate_of_real_video_with_variable_rate(shared: Path, fps: float) -> None:
    video = shared / "data" / "stnet" / "mp4" / "bartending" / "vfr00320x240_000010_000020.mp4"
    truth = fps_filter(video, fps)
    frames = list(decode(video, decoder="pyav", fps=fps))
    assert len(frames) == len(truth)
    assert all(np.array_equal(one, other) for one, other in zip(frames, truth, strict=True))


def test_the_frame_count_of_video2pkl_at_25_fps(shared: Path) -> None:
    name = "vfr00320x240_000010_000020"
    info = json.loads((shared / "fixtures" / "mindspore" / "pkl_info.json").read_text())[name]
    video = shared / "data" / "stnet" / "mp4" / "bartending" / f"{name}.mp4"
    assert sum(1 for _ in decode(video, decoder="opencv")) == info["cv2_decoded"] == 60
    # 25 is the rate that the stream declares and that ffmpeg used.
    assert sum(1 for _ in decode(video, decoder="pyav", fps=25)) == info["frames"] == 75


def test_a_gap_in_time_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "gap.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for pts in (0, 1, 12 * 3600):
            frame = av.VideoFrame.from_ndarray(np.zeros((24, 32, 3), np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BadDataError, match="gap of"):
        list(decode(path, decoder="pyav", fps=12))
