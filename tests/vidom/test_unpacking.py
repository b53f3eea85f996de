from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from vidom import unpacking
from vidom.errors import BadDataError, UnavailableError
from vidom.unpacking import is_archive, path_inside, unpack

FILES = {"train/one.jpg": b"1" * 1000, "train/two.jpg": b"", "list.txt": b"one 0\n"}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, name: str):
    write = write_zip if name.endswith("zip") else write_tar
    assert is_archive(name)
    assert unpack(write(tmp_path / name, FILES), tmp_path / "out") == 3
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "..\\out.txt", "\\out.txt"]
)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, write, name: str):
    archive = write(tmp_path / "a.zip", {name: b"x"})
    with pytest.raises(BadDataError, match="leads out of the folder"):
        unpack(archive, tmp_path / "in" / "folder")
    assert content_of(tmp_path) == {"a.zip": archive.read_bytes()}


def test_links_are_left_out(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert unpack(tmp_path / "a.tar", tmp_path / "out") == unpack(tmp_path / "a.zip", tmp_path / "out") == 0


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_what_the_disk_has_no_room_for_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write
):
    archive = write(tmp_path / "a.tgz", {"small": b"x", "bomb": bytes(100_000_000)})
    assert archive.stat().st_size < 200_000
    monkeypatch.setattr(unpacking, "free_bytes", lambda folder: 99_999_999)
    with pytest.raises(UnavailableError, match="free below"):
        unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == {"small": b"x"}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("kept", [0, 10, 100, 300])
def test_damaged_archives_are_bad_data(tmp_path: Path, write, kept: int):
    archive = write(tmp_path / "a.tgz", FILES | {"noise": bytes(range(256)) * 20})
    archive.write_bytes(archive.read_bytes()[:kept] + b"\x07" * 50)
    with pytest.raises(BadDataError, match="damaged"):
        unpack(archive, tmp_path / "out")


def test_a_name_inside_stays_as_it_is(tmp_path: Path):
    assert path_inside(tmp_path, "a/b..c/d") == tmp_path / "a/b..c/d"
    assert path_inside(tmp_path, ".") == tmp_path
