"""Videos truncated at any byte."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from small_videos import write_video

from preprocess.sources.container_end import missing_bytes
from preprocess.sources.video import VideoFile
from vidom.errors import BadDataError


def index_first(path: Path) -> Path:
    """Return an MP4 whose index comes first, so that a truncated file can be opened."""
    target = path.with_name("index_first.mp4")
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return target


@pytest.mark.parametrize("name", ["v.webm", "v.avi", "v.mp4", "index_first.mp4"])
def test_truncation_at_any_byte_is_detected(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / ("v.mp4" if name == "index_first.mp4" else name), frames=12)
    path = index_first(path) if name == "index_first.mp4" else path
    assert missing_bytes(path) == 0
    assert len(list(VideoFile(path).timed_frames())) == 12
    complete = path.read_bytes()
    shorter = tmp_path / "shorter"
    for length in range(0, len(complete) - 2, max(1, len(complete) // 60)):
        shorter.write_bytes(complete[:length])
        with pytest.raises(BadDataError, match="is truncated|cannot be decoded"):
            list(VideoFile(shorter).timed_frames())


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"", 0),
        (b"RIFF\xff\xff\xff\xffAVI LIST", 0),
        (b"RIFF\x20\x00\x00\x00AVI LIST", 24),
        (b"RIFF\x20\x00\x00\x00WAVEfmt ", 0),
        # An EBML header of no content, then a segment of 100 bytes, one of unknown size, and none.
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xe4" + bytes(40), 60),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + bytes(40), 0),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(40), 0),
        (b"\x1a\x45\xdf\xa3\x80", 0),
        (b"\x1a\x45\xdf\xa3\x00" + bytes(20), 0),
        # Boxes: with a 64-bit length, up to the end, and followed by an unknown type.
        (b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x01mdat" + (50).to_bytes(8, "big") + bytes(20), 14),
        (b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x00mdat" + bytes(20), 0),
        (b"\x00\x00\x00\x08ftyp" + b"\x7f\xff\xff\xffjunk" + bytes(20), 0),
    ],
)
def test_declared_lengths_of_containers(tmp_path: Path, content: bytes, missing: int) -> None:
    path = tmp_path / "v"
    path.write_bytes(content)
    assert missing_bytes(path) == missing


def test_a_file_of_many_tiny_boxes_is_not_read_forever(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"\x00\x00\x00\x08free" * 200_000)
    assert missing_bytes(path) == 0
