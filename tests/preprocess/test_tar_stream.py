"""Archives that try to write elsewhere, exhaust memory or disk, or are truncated."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import pytest

from preprocess.datasets.archives import archive_parts, unpack_videos
from preprocess.datasets.tar_stream import tar_members
from vidom.errors import BadDataError, UnavailableError


def write_parts(folder: Path, content: bytes, *, parts: int = 2) -> tuple[Path, ...]:
    size = -(-len(content) // parts)
    for number in range(parts):
        (folder / f"a-{number:02}").write_bytes(content[number * size : (number + 1) * size])
    return archive_parts(folder, "a")


def archive(*members: tuple[tarfile.TarInfo, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", **options) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"video", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def contents(parts: tuple[Path, ...]) -> dict[str, bytes]:
    return {found.name: b"".join(found.chunks()) for found in tar_members(parts)}


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("parts", [1, 3, 40])
def test_members_match_tarfile(tmp_path: Path, layout: int, parts: int) -> None:
    files = {f"v2/{number}.webm": bytes([number]) * (number * 300) for number in range(9)}
    folder = member("v2", b"", type=tarfile.DIRTYPE)
    long_name = member("x" * 90 + "/" + "y" * 90 + "é.webm", b"long", mtime=1.5)
    content = archive(folder, *(member(*item) for item in files.items()), long_name, format=layout)
    found = contents(write_parts(tmp_path, content, parts=parts))
    assert {name: data for name, data in found.items() if name.startswith("v2/")} == files


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (member("../../1.webm"), "leaves the folder"),
        (member("/tmp/1.webm"), "leaves the folder"),
        (
            member("1.webm", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            "a link, device or other special file",
        ),
        (
            member("1.webm", b"", type=tarfile.LNKTYPE, linkname="../1"),
            "a link, device or other special file",
        ),
        (member("1.webm", b"", type=tarfile.CHRTYPE), "a link, device or other special file"),
        (member("1.webm", b"", type=tarfile.BLKTYPE), "a link, device or other special file"),
        (member("1.webm", b"", type=tarfile.FIFOTYPE), "a link, device or other special file"),
        (member("1.webm", b"", type=tarfile.GNUTYPE_SPARSE), "a link, device or other special file"),
    ],
)
def test_hostile_members_are_rejected(
    tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes], message: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.mkdir()
    parts = write_parts(source, archive(member("0.webm"), hostile, format=tarfile.USTAR_FORMAT))
    with pytest.raises(BadDataError, match=message):
        unpack_videos(parts, target, names={"0", "1"}, suffix=".webm")
    assert [path.name for path in tmp_path.rglob("*.webm")] == ["0.webm"]
    assert (target / "0.webm").read_bytes() == b"video"


def test_only_requested_videos_are_unpacked(tmp_path: Path) -> None:
    parts = write_parts(
        tmp_path,
        archive(member("any/folder/1.webm", b"one"), member("2.webm"), member("1.txt"), member(".webm")),
    )
    unpack_videos(parts, tmp_path / "out", names={"1"}, suffix=".webm")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.webm", "unpacked.json"]
    assert (tmp_path / "out" / "1.webm").read_bytes() == b"one"


def header(name: bytes, size: int, kind: bytes) -> bytes:
    block = bytearray(512)
    block[:100] = name.ljust(100, b"\0")
    block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_name_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    # The compressed file has 64 KiB; the sizes in its headers are checked before reading.
    content = gzip.compress(header(b"n", 7 << 30, kind) + bytes(10_000), 0) + gzip.compress(bytes(60_000), 0)
    with pytest.raises(BadDataError, match="expand to more than"):
        contents(write_parts(tmp_path, content))
    content = gzip.compress(header(b"n", 2 << 20, kind), 0) + b"".join(
        gzip.compress(struct.pack(">Q", number) * 1000, 0) for number in range(60)
    )
    with pytest.raises(BadDataError, match="extended header of 2097152 bytes"):
        contents(write_parts(tmp_path, content))


def test_a_decompression_bomb_is_rejected(tmp_path: Path) -> None:
    content = gzip.compress(header(b"0.webm", 1 << 30, b"0") + bytes(5_000_000))
    parts = write_parts(tmp_path, content)
    with pytest.raises(BadDataError, match="expand to more than"):
        contents(parts)


def test_an_oversized_video_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.datasets.archives._MAX_VIDEO", 4)
    parts = write_parts(tmp_path, archive(member("0.webm", b"12345")))
    with pytest.raises(BadDataError, match="has 5 bytes; the maximum is 4"):
        unpack_videos(parts, tmp_path / "out", names={"0"}, suffix=".webm")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_reported(tmp_path: Path, share: float) -> None:
    noise = bytes((number * 7919) % 251 for number in range(30_000))
    content = archive(*(member(f"{number}.webm", noise) for number in range(4)))
    parts = write_parts(tmp_path, content[: int(len(content) * share)])
    with pytest.raises(BadDataError, match="ends too early"):
        contents(parts)


@pytest.mark.parametrize("content", [b"PK\x03\x04 no tar", gzip.compress(b"no tar at all " * 100, mtime=0)])
def test_a_file_that_is_not_an_archive_is_reported(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadDataError, match=r"not a tar\.gz"):
        contents(write_parts(tmp_path, content))


def test_flipped_bits_are_harmless(tmp_path: Path) -> None:
    content = bytearray(archive(member("0.webm", b"a" * 700), member("1.webm", b"b" * 700)))
    for at in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        try:
            found = contents(write_parts(tmp_path, bytes(damaged)))
        except BadDataError:
            continue
        assert set(found) <= {"0.webm", "1.webm"}


def test_an_interrupted_unpacking_resumes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.webm").write_bytes(b"first")
    stamp = (out / "0.webm").stat().st_mtime_ns
    (out / "1.webm.77.part").write_bytes(b"truncated")
    parts = write_parts(tmp_path, archive(member("0.webm", b"first"), member("1.webm", b"second")))
    unpack_videos(parts, out, names={"0", "1"}, suffix=".webm")
    assert (out / "0.webm").stat().st_mtime_ns == stamp
    assert (out / "1.webm").read_bytes() == b"second"


def test_a_small_disk_is_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.datasets.archives.free_bytes", lambda _: 10)
    parts = write_parts(tmp_path, archive(member("0.webm")))
    with pytest.raises(UnavailableError, match="needs .* only 10 B are free"):
        unpack_videos(parts, tmp_path / "out", names={"0"}, suffix=".webm")
