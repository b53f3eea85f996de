from __future__ import annotations

from pathlib import Path

import av
import cv2
import pytest
from ascend_bench import Bench, set_up


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A working folder whose ais_bench is a stub."""
    return set_up(tmp_path, monkeypatch)


@pytest.fixture
def video(tmp_path: Path, fixtures: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for file in sorted((fixtures / "synth" / "big_640x361").glob("*.jpg")):
            picture = cv2.resize(cv2.imread(str(file)), (320, 240))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path
