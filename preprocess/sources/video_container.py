"""The container of a video file: what FFmpeg may open, which stream is the video, how long it should be."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from shlex import quote

import av

from preprocess.sources.container_end import missing_bytes
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = [
    "DEMUXER_OPTIONS",
    "announced_end",
    "check_length",
    "open_container",
    "sound_packets",
    "unreadable",
    "video_stream",
]

_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,ivf,gif"
# Containers of single videos. Playlists and image sequences are excluded: they could refer to other files.
DEMUXER_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
"""The formats and protocols that FFmpeg may open, regardless of the file name."""

# Further formats of single files, opened only to find out their names.
_NAMED_FORMATS = (
    "h264,hevc,vvc,av1,obu,mjpeg,dv,mxf,nut,rm,yuv4mpegpipe,rawvideo,wav,mp3,aac,flac,apng,webp_anim,png_pipe,jpeg_pipe,"
    "webp_pipe,bmp_pipe,tiff_pipe,jpegxl_pipe,jpegxl_anim,psd_pipe,svg_pipe"
)
_IMAGES = re.compile(r"apng|\w+_anim|\w+_pipe")
_MAYBE_ANIMATED = re.compile(r"apng|\w+_anim|webp_pipe")
_IMAGE_BRANDS = frozenset({"avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"})
# Demuxers that skip what they cannot read. Each error that they log while reading means lost frames.
_SKIPPING = frozenset({"matroska,webm", "ogg", "asf"})
# PyAV then counts errors (`get_last_error`), but reports nothing.
av.logging.set_level(av.logging.PANIC)
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE})
_DURATION = re.compile(r"([0-9]{1,3}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")


@contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """Yield the opened file. Raises BadDataError, naming the file, if it is absent, truncated, or not a video."""
    check_length(path)
    try:
        # An absolute path cannot be mistaken for a URL.
        container = av.open(str(path.absolute()), metadata_errors="replace", options=DEMUXER_OPTIONS)
    except (av.FFmpegError, ValueError) as error:
        raise _not_a_video(path, error) from None
    with container:
        if container.metadata.get("major_brand") in _IMAGE_BRANDS:
            raise BadDataError(
                f"The file {path} is an image (AVIF or HEIF), not a video. Remove it from the list."
            )
        yield container


def check_length(path: Path) -> None:
    """Raise BadDataError if the file is absent, not a regular one, or shorter than its container declares."""
    if path.is_dir():
        raise BadDataError(
            f"The video {path} is a folder. A list of folders of frames has lines of a folder, its number of frames "
            "and a label."
        )
    if not path.is_file():
        raise BadDataError(f"The video {path} does not exist. Check --data_root and the list.")
    missing = missing_bytes(path)
    if missing:
        raise BadDataError(
            f"The video {path} is truncated: it is {missing} bytes shorter than its header declares. Replace it or "
            "remove it from the list."
        )


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first video stream that is not a cover image. Raises BadDataError where there is none."""
    kinds = av.stream.Disposition
    still = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams:
        found = "only a cover image" if container.streams.video else "other streams only"
        raise BadDataError(f"The file {path} has no video stream, {found}. Remove it from the list.")
    if streams[0].codec_context is None or not streams[0].width:
        raise BadDataError(f"The video {path} is in a format unknown to FFmpeg, or its header is damaged.")
    return streams[0]


def sound_packets(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Iterator[av.Packet[av.VideoStream]]:
    """Yield the stream's packets. Raises BadDataError where one is incomplete or FFmpeg skips damaged parts."""
    skipping = container.format.name in _SKIPPING
    packets = container.demux(stream)
    for done in count():
        before, _ = av.logging.get_last_error()
        packet = next(packets, None)
        errors, last = av.logging.get_last_error()
        skipped = skipping and errors > before and last and last[1] == container.format.name
        if skipped or (packet and packet.is_corrupt):
            reason = shown(last[2].strip()) if skipped and last else "an incomplete packet"
            raise BadDataError(
                f"The video {path} is truncated or damaged after {done} packets ({reason}). Replace it or remove it "
                "from the list."
            )
        if packet is None:
            return
        yield packet


def announced_end(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return the time in seconds at which the container says that the stream ends; None where it does not say so.

    MPEG streams do not say it: FFmpeg estimates their duration.
    """
    start = Fraction(stream.start_time or 0) * (stream.time_base or 0)
    if "mpeg" in container.format.name or "ivf" in container.format.name:
        return None
    alone = len(container.streams) == 1
    # ASF gives every stream the duration of the longest one.
    if stream.duration and stream.time_base and (alone or container.format.name != "asf"):
        return start + stream.duration * stream.time_base
    # Matroska has a duration for all streams together, and writers add one for each as a tag.
    tag = _DURATION.match(stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = tag.groups()
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    return Fraction(container.duration, av.time_base) if alone and container.duration else None


def unreadable(path: Path, error: Exception, where: str = "") -> BadDataError:
    """Return the error for a file that FFmpeg cannot decode; `where` is how far it came, such as `after 7 frames `.

    Raises OSError where not the file is at fault but the number of files that this process may open.
    """
    if isinstance(error, av.FFmpegError) and error.errno in _LIMITS:
        raise OSError(error.errno, error.strerror, str(path)) from None
    reason = getattr(error, "strerror", None) or error
    return BadDataError(
        f"The file {path} cannot be decoded as a video {where}({shown(reason)}). It may be truncated, damaged, or not "
        "a video; replace it or remove it from the list."
    )


def _not_a_video(path: Path, error: Exception) -> BadDataError:
    """Return the error for a file that is not opened, with the name of its format where FFmpeg knows it."""
    options = {**DEMUXER_OPTIONS, "format_whitelist": _NAMED_FORMATS}
    # Without loss. Copying raw streams instead (-c copy) loses frames, for they have no timestamps.
    encode = f"ffmpeg -i {quote(path.name)} -crf 0 {quote(path.stem + '.mkv')}"
    with suppress(av.FFmpegError, ValueError), av.open(str(path.absolute()), options=options) as container:
        name, title = container.format.name, container.format.long_name
        if _IMAGES.fullmatch(name):
            kind = name.rpartition("_")[0] or name
            way_out = (
                f" or, if it is animated, encode it: {encode}" if _MAYBE_ANIMATED.fullmatch(name) else "."
            )
            return BadDataError(
                f"The file {path} is an image ({kind.upper()}), not a video. Remove it from the list{way_out}"
            )
        if not container.streams.video:
            return BadDataError(
                f"The file {path} is {title} ({name}), which has no video stream. Remove it from the list."
            )
        return BadDataError(
            f"The file {path} is {title} ({name}), a format that is not opened; the formats are "
            f"{_FORMATS.replace(',', ', ')}. Encode it: {encode}"
        )
    return unreadable(path, error)
