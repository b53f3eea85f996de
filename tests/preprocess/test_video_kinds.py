"""Videos of every kind that public reports name: colours, orientation, damage, and what is no video at all.

The frames of the clips show red, green, blue and near-white patches, and below them eight bars, which are the number of
the frame in binary. The expected pixels are those of ffmpeg 5.1 and decord 0.6, which agree within two levels.
"""

from __future__ import annotations

import gc
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from preprocess.audit import AuditOptions, audit
from preprocess.datasets.frame_extraction import ExtractionJob, ExtractionSettings, extract_frames
from preprocess.pack import PackOptions, pack
from preprocess.sources.video import VideoFile
from vidom.errors import BadDataError
from vidom.formats.recipe import load_recipe

VIDEOS = Path(__file__).parents[1] / "fixtures" / "videos"
PAINTED = ((220, 40, 40), (40, 200, 60), (40, 60, 210), (235, 235, 235))


def patches(frame: np.ndarray) -> np.ndarray:
    """Return the middle of the four patches, [4, 3]."""
    height, width = frame.shape[:2]
    return np.array(
        [frame[height * y // 96, width * x // 128] for y, x in ((12, 16), (12, 96), (36, 16), (36, 96))], int
    )


def number(frame: np.ndarray) -> int:
    """Return the number that the bars show."""
    height, width = frame.shape[:2]
    return sum(
        int(frame[height * 3 // 4, width * (2 * bar + 1) // 16].mean() > 128) << bar for bar in range(8)
    )


def frames_of(path: Path) -> list[np.ndarray]:
    source = VideoFile(path)
    return list(source.read(range(source.total_frames)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base.mp4", ((220, 39, 39), (40, 198, 59), (39, 59, 210), (235, 235, 235))),
        ("interlaced.mp4", ((220, 39, 39), (40, 198, 59), (39, 59, 210), (235, 235, 235))),
        ("hlg.mp4", ((220, 39, 40), (40, 199, 60), (40, 59, 210), (235, 233, 235))),
        ("av1.mp4", ((220, 39, 39), (40, 198, 59), (39, 59, 210), (235, 235, 235))),
        ("bt709.mp4", ((219, 38, 39), (39, 199, 60), (39, 58, 209), (235, 235, 235))),
        # BT.601 colours that declare BT.2020's matrix of constant luminance.
        ("matrix10.mp4", ((226, 47, 36), (35, 182, 54), (37, 71, 218), (235, 235, 235))),
        ("vfr.mkv", ((220, 39, 39), (40, 198, 59), (39, 59, 210), (235, 235, 235))),
    ],
)
def test_pixels_are_those_of_ffmpeg_when_read_and_when_extracted(
    tmp_path: Path, name: str, expected: tuple[tuple[int, int, int], ...]
):
    frames = frames_of(VIDEOS / name)
    assert np.abs(patches(frames[0]) - expected).max() <= 2
    first = number(frames[0])  # an edit list may begin later
    assert [number(frame) for frame in frames] == list(range(first, first + len(frames)))
    job = ExtractionJob("a", VIDEOS / name, tmp_path / "a", ExtractionSettings(quality=100))
    assert extract_frames(job).frames == len(frames)
    for path, frame in zip(sorted((tmp_path / "a").iterdir()), frames, strict=True):
        extracted = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert np.abs(patches(extracted) - patches(frame)).max() <= 4  # JPEG
        assert number(extracted) == number(frame)


def painted(index: int) -> np.ndarray:
    """Return the frame of this number as it was painted."""
    frame = np.zeros((96, 128, 3), np.uint8)
    for (y, x), colour in zip(((0, 0), (0, 64), (24, 0), (24, 64)), PAINTED, strict=True):
        frame[y : y + 24, x : x + 64] = colour
    for bar in range(8):
        frame[48:, 16 * bar : 16 * bar + 16] = 235 if index >> bar & 1 else 20
    return frame


def encode(
    path: Path, codec: str, *, options: dict[str, str] | None = None, size=(128, 96), pix_fmt: str, **tags
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(
                cv2.resize(painted(index), size, interpolation=cv2.INTER_NEAREST)
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options", "size", "pix_fmt"),
    [
        ("xvid.avi", "mpeg4", {"flags": "+ildct+ilme", "b": "2M"}, (128, 96), "yuv420p"),
        ("mpeg2.mpg", "mpeg2video", {"flags": "+ildct+ilme", "b": "2M"}, (128, 96), "yuv420p"),
        ("prores.mov", "prores_ks", {"flags": "+ildct", "profile": "2"}, (128, 96), "yuv422p10le"),
        ("dv.avi", "dvvideo", {}, (720, 576), "yuv420p"),
        ("fields.mkv", "libx264", {"x264-params": "tff=1", "crf": "4"}, (128, 96), "yuv420p"),
    ],
)
def test_interlaced_codecs_are_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], size: tuple[int, int], pix_fmt: str
):
    frames = frames_of(encode(tmp_path / name, codec, options=options, size=size, pix_fmt=pix_fmt))
    assert [number(frame) for frame in frames] == list(range(12))
    assert np.abs(patches(frames[0]) - PAINTED).max() <= 6  # as far as the codec keeps colours


@pytest.mark.parametrize("matrix", range(4, 15))
@pytest.mark.parametrize("transfer", [1, 9, 16, 18])
def test_no_declared_matrix_or_transfer_ends_in_garbage(tmp_path: Path, matrix: int, transfer: int):
    """Whatever is declared, colours are converted by one of swscale's matrices, all of which keep white and order."""
    options = {"crf": "4", "x264-params": f"colormatrix={_NAMES[matrix]}:transfer={_TRANSFERS[transfer]}"}
    frames = frames_of(encode(tmp_path / "a.mp4", "libx264", options=options, pix_fmt="yuv420p"))
    assert [number(frame) for frame in frames] == list(range(12))
    assert np.abs(patches(frames[0])[3] - 235).max() <= 4
    assert patches(frames[0])[:3].argmax(axis=1).tolist() == [0, 1, 2]


_NAMES = {
    **{4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "YCgCo", 9: "bt2020nc", 10: "bt2020c"},
    **{11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ICtCp"},
}
_TRANSFERS = {1: "bt709", 9: "log100", 16: "smpte2084", 18: "arib-std-b67"}

TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "as it is": ((1, 0, 0, 1), lambda frame: frame),
    "mirrored": ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda frame: frame[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda frame: frame[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "counter-clockwise": ((0, -1, 1, 0), np.rot90),
    "transposed": ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
    "transposed at the other diagonal": ((0, -1, -1, 0), lambda frame: np.rot90(frame, 2).swapaxes(0, 1)),
    "without a matrix": ((0, 0, 0, 0), lambda frame: frame),
}


def with_matrix(path: Path, matrix: tuple[float, float, float, float], scale: int = 1 << 16) -> Path:
    """Write base.mp4 with this matrix in its track header (ISO/IEC 14496-12, section 8.3.2)."""
    content = bytearray((VIDEOS / "base.mp4").read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(scale * value) for value in matrix)
    rows = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4")
    content[at : at + 36] = rows.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("turn", TURNS)
def test_all_turns_and_mirror_images_are_applied(tmp_path: Path, turn: str):
    matrix, expected = TURNS[turn]
    upright = frames_of(VIDEOS / "base.mp4")
    for scale in (1 << 16, 1 << 17):
        shown = frames_of(with_matrix(tmp_path / "a.mp4", matrix, scale))
        np.testing.assert_array_equal(shown[5], expected(upright[5]))


def test_the_mirrored_clip_of_a_front_camera_is_mirrored():
    frame = frames_of(VIDEOS / "hflip.mp4")[0]
    assert np.abs(patches(frame)[1] - (220, 40, 40)).max() <= 3
    assert number(frame[:, ::-1]) == 0


def test_an_orientation_that_only_key_frames_declare_is_that_of_all_frames(tmp_path: Path):
    """H.264 streams may declare it in the stream itself (SEI display orientation)."""
    path = tmp_path / "a.mp4"
    with av.open(str(VIDEOS / "base.mp4")) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        change = BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        for packet in source.demux(video=0):
            for changed in change.filter(packet if packet.size else None):
                changed.stream = stream
                container.mux(changed)
    upright = frames_of(VIDEOS / "base.mp4")
    for shown, frame in zip(frames_of(path), upright, strict=True):
        np.testing.assert_array_equal(shown, np.rot90(frame))
    (single,) = VideoFile(path).read([15])
    np.testing.assert_array_equal(single, np.rot90(upright[15]))


def test_a_slanted_matrix_is_refused(tmp_path: Path):
    half = 2**-0.5
    with pytest.raises(BadDataError, match="at a slant"):
        frames_of(with_matrix(tmp_path / "a.mp4", (half, half, -half, half)))


def test_frames_are_released_as_soon_as_they_are_used():
    """A reference cycle through the side data of 4K frames once held a gigabyte."""
    gc.collect()
    gc.disable()
    try:
        before = _frames_in_memory()
        for _ in VideoFile(VIDEOS / "hflip.mp4").frames():
            pass
        assert _frames_in_memory() - before <= 3
    finally:
        gc.enable()


def _frames_in_memory() -> int:
    return sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())


BAD = {
    "half_lost.webm": "damaged after 20 packets .*invalid as first byte",
    "damaged_packet.mp4": "Frame 21 .* is damaged",
    "two_sizes.mp4": "Frame 18 .* measures 64x48, the frames before it 128x96",
    "cover.mp4": "no video stream, only a cover image",
    "cover.png": r"is an image \(PNG\), not a video\. Remove it from the list\.$",
    "raw.h264": r"is raw H.264 video .*Encode it: ffmpeg -i raw.h264 -crf 0 raw.mkv$",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named_and_is_a_fault_wherever_it_is_read(tmp_path: Path, name: str):
    with pytest.raises(BadDataError, match=BAD[name]):
        frames_of(VIDEOS / name)
    extracted = extract_frames(ExtractionJob("a", VIDEOS / name, tmp_path / "a", ExtractionSettings()))
    assert extracted.reason is not None and not (tmp_path / "a").exists()
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    result = audit(AuditOptions(ann_file=tmp_path / "list.txt", data_root=VIDEOS, min_frames=1))
    assert [fault.kind for fault in result.faults] == ["unreadable"]


def test_a_pack_skips_all_of_them_and_lists_them(tmp_path: Path):
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in [*BAD, "base.mp4"]))
    options = PackOptions(
        recipe=load_recipe("tsm_demo"),
        data_root=VIDEOS,
        ann_file=tmp_path / "list.txt",
        output_dir=tmp_path / "store",
        on_bad="skip",
        workers=1,
    )
    store = pack(options)
    assert [sample.id for sample in store.samples.values()] == ["base.mp4"]
    assert [(one.id, bool(re.search(BAD[one.id], one.reason))) for one in store.skipped] == [
        (name, True) for name in BAD
    ]


def with_zeros(path: Path, size: int) -> Path:
    """Overwrite this many bytes in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + size] = bytes(size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.webm", "libvpx", {"cluster_time_limit": "200"}),
        ("a.mkv", "libx264", {"cluster_time_limit": "200"}),
        ("a.ogv", "libvpx", {"page_duration": "1"}),
    ],
)
def test_frames_lost_in_the_middle_are_noticed_though_later_ones_are_read(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (50, 96, 128, 3), np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "5", "b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    assert VideoFile(path).total_frames == 50
    with pytest.raises(BadDataError, match="damaged"):
        _ = VideoFile(with_zeros(path, 30000)).total_frames


def test_a_video_that_ends_before_the_announced_end_is_refused(tmp_path: Path):
    path = tmp_path / "a.webm"
    with av.open(str(path), "w", options={"cluster_time_limit": "200"}) as container:
        stream = container.add_stream("libvpx", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(painted(index))))
        container.mux(stream.encode())
    whole = path.read_bytes()
    clusters = [match.start() for match in re.finditer(rb"\x1f\x43\xb6\x75", whole)]
    segment = whole.index(b"\x18\x53\x80\x67") + 4
    unknown_size = b"\x01" + 7 * b"\xff"
    path.write_bytes(whole[:segment] + unknown_size + whole[segment + 8 : clusters[len(clusters) // 2]])
    with pytest.raises(BadDataError, match=r"announces 2.00 seconds, but its frames end after 0\.96"):
        _ = VideoFile(path).total_frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".ts", ".mpg", ".ogv"])
def test_a_video_shorter_than_its_audio_is_whole(tmp_path: Path, suffix: str):
    codecs = {".webm": "libvpx", ".ogv": "libvpx", ".wmv": "wmv2", ".flv": "flv", ".mpg": "mpeg2video"}
    sound = {".webm": "libopus", ".ogv": "libopus", ".wmv": "wmav2", ".flv": "mp3", ".mpg": "mp2"}
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs.get(suffix, "mpeg4"), rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        audio = container.add_stream(sound.get(suffix, "mp3" if suffix == ".avi" else "aac"), rate=48000)
        audio.bit_rate = 64000
        for index in range(25):
            container.mux(video.encode(av.VideoFrame.from_ndarray(painted(index))))
        container.mux(video.encode())
        size = audio.codec_context.frame_size or 1024
        for start in range(0, 5 * 48000, size):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((audio.layout.nb_channels, size), np.float32),
                format="fltp",
                layout=audio.layout.name,
            )
            frame.sample_rate, frame.pts = 48000, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    assert [number(frame) for frame in frames_of(path)] == list(range(25))


def test_a_last_frame_that_is_shown_for_long_is_no_damage(tmp_path: Path):
    """Matroska does not store how long the last frame is shown, only when it ends."""
    for path in (tmp_path / "a.mkv", tmp_path / "a.mp4"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            frames = [av.VideoFrame.from_ndarray(painted(index)) for index in range(20)]
            packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
            packets[-1].duration = round(3 / packets[-1].time_base)
            container.mux(packets)
        assert VideoFile(path).total_frames == 20


@pytest.mark.parametrize("suffix", [".apng", ".webp", ".gif"])
def test_animated_images(tmp_path: Path, suffix: str):
    from PIL import Image

    images = [Image.fromarray(painted(index)) for index in range(5)]
    path = tmp_path / f"a{suffix}"
    images[0].save(path, format="png" if suffix == ".apng" else None, save_all=True, append_images=images[1:])
    if suffix == ".gif":  # which data sets of actions do use
        assert [number(frame) for frame in frames_of(path)] == list(range(5))
        return
    with pytest.raises(
        BadDataError, match=r"is an image \((A?PNG|WEBP)\).*if it is animated, encode it: ffmpeg -i a\."
    ):
        frames_of(path)


def test_names_in_advice_are_quoted(tmp_path: Path):
    path = tmp_path / "my clip's.h264"
    path.write_bytes((VIDEOS / "raw.h264").read_bytes())
    with pytest.raises(BadDataError) as refused:
        frames_of(path)
    words = shlex.split(str(refused.value).partition("Encode it: ")[2])
    assert words == ["ffmpeg", "-i", "my clip's.h264", "-crf", "0", "my clip's.mkv"]


@pytest.mark.parametrize("name", ["interlaced.mp4", "hlg.mp4", "av1.mp4", "matrix10.mp4", "hflip.mp4"])
def test_opencv_s_frames_are_used_only_where_they_are_right(tmp_path: Path, name: str):
    job = ExtractionJob("a", VIDEOS / name, tmp_path / "a", ExtractionSettings(decoder="opencv"))
    done = extract_frames(job)
    if done.reason is None:  # another build of OpenCV
        first = cv2.imread(str(tmp_path / "a" / "img_00001.jpg"), cv2.IMREAD_COLOR_RGB)
        assert np.abs(patches(first) - patches(frames_of(VIDEOS / name)[0])).max() <= 6
    else:
        assert "--decoder pyav" in done.reason


def test_opencv_still_extracts_what_it_decodes_well(tmp_path: Path):
    job = ExtractionJob("a", VIDEOS / "base.mp4", tmp_path / "a", ExtractionSettings(decoder="opencv"))
    assert extract_frames(job).frames == 40
