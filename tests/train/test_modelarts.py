"""A training on data of an object store: a real S3 server on this machine, killed transfers, a second machine."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import FRAMES, SETTINGS, command, words, write_list

from train.modelarts.object_store import RemoteFolder, fetch, send
from vidom.errors import BadDataError, UnavailableError, UsageError

pytest.importorskip("s3fs", reason="the optional package s3fs is not installed")
servers = pytest.importorskip("moto.server", reason="the S3 server moto is not installed")

# Ends the process without a word before or after the given line of a transfer's journal.
KILLED = """
import os, sys
from train.modelarts import __main__ as job, object_store
moment, after, write, calls = int(sys.argv.pop(1)), sys.argv.pop(1) == "after", object_store.append_line, [0]
def append(stream, document):
    calls[0] += 1
    if calls[0] == moment and not after: os.kill(os.getpid(), 9)
    write(stream, document)
    if calls[0] == moment: os.kill(os.getpid(), 9)
object_store.append_line = append
job.main()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = servers.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket of the server that `AWS_ENDPOINT_URL` names."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.name)) % 10**8}"
    RemoteFolder(f"s3://{name}").open()[0].mkdir(name)
    return name


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def write_files(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_what_was_sent_is_fetched_and_what_is_unchanged_is_not_sent_again(bucket: str, tmp_path: Path):
    remote = RemoteFolder(f"obs://{bucket}/some/run")
    folder = write_files(tmp_path / "here", a=b"1", sub__b=b"22", empty=b"", **{"last.pth": b"333"})
    (folder / "log.4242.part").write_bytes(b"half")
    assert send(folder, remote) == 4
    assert send(folder, remote) == 0
    write_files(folder, a=b"changed")
    assert send(folder, remote) == 1
    assert fetch(remote, tmp_path / "there") == 4
    assert files_below(tmp_path / "there") == {
        "a": b"changed",
        "sub/b": b"22",
        "empty": b"",
        "last.pth": b"333",
    }


def test_archives_are_unpacked_where_they_stand(bucket: str, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as archive:
        archive.writestr("one/img_00001.jpg", b"frame")
    store, _ = (remote := RemoteFolder(f"s3://{bucket}/train")).open()
    store.put_file(str(tmp_path / "1.zip"), f"{bucket}/train/1.zip")
    for _ in range(2):
        fetch(remote, tmp_path / "data")
        assert files_below(tmp_path / "data") == {"one/img_00001.jpg": b"frame"}
    fetch(RemoteFolder(f"s3://{bucket}/train/1.zip"), tmp_path / "single")
    assert files_below(tmp_path / "single") == {"one/img_00001.jpg": b"frame"}


def test_a_checkpoint_is_sent_last_and_as_it_was_when_the_copy_began(bucket: str, tmp_path: Path):
    folder = write_files(tmp_path / "run", **{"last.pth": b"old", "log": b"line of old"})
    remote = RemoteFolder(f"s3://{bucket}/run")

    class Store:
        order: list[str] = []  # noqa: RUF012

        def put_file(self, path: str, name: str) -> None:
            if not self.order:
                write_files(tmp_path, new=b"new")
                (tmp_path / "new").rename(folder / "last.pth")
            self.order.append(f"{name.rsplit('/', 1)[1]}: {Path(path).read_text()}")

    class Remote(RemoteFolder):
        def open(self) -> tuple[Store, str]:
            return Store(), "run"

    send(folder, Remote(remote.url), last=lambda name: name.endswith(".pth"))
    assert Store.order == ["log: line of old", "last.pth: old"]
    assert (folder / "last.pth").read_bytes() == b"new"


def test_wrong_addresses_and_absent_stores_are_reported(bucket: str, tmp_path: Path):
    with pytest.raises(UsageError, match="is not an address"):
        RemoteFolder("/some/folder")
    with pytest.raises(BadDataError, match="no bucket"):
        fetch(RemoteFolder("s3://absent-bucket/data"), tmp_path)
    with pytest.raises(UnavailableError, match="failed"):
        fetch(RemoteFolder(f"s3://{bucket}/data", "http://127.0.0.1:9"), tmp_path)
    assert fetch(RemoteFolder(f"s3://{bucket}/absent"), tmp_path) == 0


@pytest.mark.slow
def test_killed_transfers_and_a_second_machine_end_with_the_bytes_of_a_local_run(bucket: str, tmp_path: Path):
    data = tmp_path / "source"
    ann_file = write_list(tmp_path / "list.txt", count=3)
    for name in (line.split()[0] for line in ann_file.read_text().splitlines()):
        shutil.make_archive(str(data / name), "zip", FRAMES, name)
    shutil.copy(ann_file, data)
    assert send(data, RemoteFolder(f"s3://{bucket}/data")) == 4
    local = words(ann_file, tmp_path / "local", train__epochs="1")
    assert command(*local).returncode == 0

    def arguments(machine: str) -> list[str]:
        sets = [
            word for pair in (SETTINGS | {"train.epochs": "1"}).items() for word in ("--set", "=".join(pair))
        ]
        return [
            *("--data_url", f"s3://{bucket}/data", "--train_url", f"s3://{bucket}/results"),
            *("--ann_file", "list.txt", "--val_ann", "list.txt", "--work_dir", str(tmp_path / machine)),
            *("--recipe", "tsm_ucf101", *sets, "--workers", "0"),
        ]  # fmt: skip

    def killed(moment: int, side: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), side, *arguments("one")],
            check=False,
            capture_output=True,
        )
        assert done.returncode == -9, done.stderr

    killed(2, "after")
    killed(1, "before")
    killed(4, "before")
    for machine in ("one", "two"):
        done = subprocess.run(
            [sys.executable, "-m", "train.modelarts", *arguments(machine)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        fetch(RemoteFolder(f"s3://{bucket}/results"), tmp_path / f"results of {machine}")
        for name in ("last.pth", "best.pth"):
            found = (tmp_path / f"results of {machine}" / name).read_bytes()
            assert found == (tmp_path / "local" / name).read_bytes()
