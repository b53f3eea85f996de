"""Folders of object stores (S3, OBS, others that fsspec reads) copied to and from the disk, continued after a kill."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.files import TEMP_SUFFIX, atomic_path, human_bytes
from vidom.folder_lock import LOCK_NAME
from vidom.journals import append_line, open_journal, read_json_lines
from vidom.progress import progress
from vidom.unpacking import is_archive, path_inside, unpack

__all__ = ["RemoteFolder", "fetch", "send"]

_log = logging.getLogger(__name__)

_FETCHED, _SENT = ".fetched.jsonl", ".sent.jsonl"


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of an object store, or an object, such as `s3://bucket/ucf101` or `obs://bucket/ucf101.zip`.

    `endpoint` is the address of the store; without one, that of `AWS_ENDPOINT_URL`, else Amazon's. Keys are those of
    the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`) or of the store's own configuration files. OBS speaks
    S3: `obs://` needs the endpoint of its region.
    """

    url: str
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if "://" not in self.url:
            raise UsageError(
                f"{self.url} is not an address of an object store such as s3://bucket/folder or obs://bucket/folder. "
                "For a folder of this machine use `vidom train` itself."
            )

    def open(self) -> tuple[Any, str]:
        """Return fsspec's file system and the path in it. Raises UnavailableError where its package is absent."""
        if find_spec("fsspec") is None:
            raise _lacking("fsspec")
        import fsspec

        scheme, rest = self.url.split("://", 1)
        scheme = "s3" if scheme == "obs" else scheme
        options: dict[str, Any] = {}
        if scheme == "s3":
            # Without keys, Amazon's client would ask the network for the machine's own.
            os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
            options["endpoint_url"] = self.endpoint or os.environ.get("AWS_ENDPOINT_URL")
            options["use_listings_cache"] = False
        try:
            return fsspec.filesystem(scheme, **options), rest.strip("/")
        except ImportError:
            raise _lacking("s3fs" if scheme == "s3" else f"the one of fsspec for {scheme}://") from None
        except ValueError as error:
            raise UsageError(f"{self.url}: {error}.") from None


def fetch(remote: RemoteFolder, folder: Path, *, last: Callable[[str], bool] = lambda name: False) -> int:
    """Copy all objects below `remote` to `folder`, archives unpacked where they stand, and return their number.

    Those whose names `last` selects follow after all others. Called again, it fetches only what is new, has changed
    since, or was not finished. Raises BadDataError for damaged archives and for names that lead out of the folder,
    UnavailableError where the store does not answer or refuses.
    """
    store, root = remote.open()
    with _reported(remote):
        store.info(root.split("/", 1)[0])
        listed = store.find(root, detail=True) if store.exists(root) else {}
    objects = dict(sorted(listed.items(), key=lambda item: (last(item[0]), item[0])))
    journal = folder / _FETCHED
    done = {line["name"]: line for line in read_json_lines(journal)}
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(entry["size"] for entry in objects.values())
    with open_journal(journal, done.values()) as lines, progress(total=total, unit="B", label="fetch") as bar:
        for name, entry in objects.items():
            relative = name[len(root) :].lstrip("/") or name.rsplit("/", 1)[-1]
            line = {"name": relative, "size": entry["size"], "version": _version(entry)}
            if done.get(relative) != line:
                _fetch_one(remote, store, name, path_inside(folder, relative))
                append_line(lines, line)
            bar.update(entry["size"])
    _log.info(f"{remote.url}: {len(objects)} objects, {human_bytes(total)}, are in {folder}.")
    return len(objects)


def _fetch_one(remote: RemoteFolder, store: Any, name: str, target: Path) -> None:
    with atomic_path(target) as temporary, _reported(remote):
        store.get_file(name, str(temporary))
    if is_archive(target.name):
        unpack(target, target.parent)
        target.unlink()


def send(folder: Path, remote: RemoteFolder, *, last: Callable[[str], bool] = lambda name: False) -> int:
    """Copy the files of `folder` that are new or have changed to `remote`, and return their number.

    Those whose names `last` selects follow after all others, in the state that they had at the beginning: the copy of
    a run that still writes is one that can be continued. An object appears when it is complete. Raises
    UnavailableError where the store does not answer or refuses.
    """
    store, root = remote.open()
    journal = folder / _SENT
    done = {line["name"]: line for line in read_json_lines(journal)}
    with _held(folder, last) as files, open_journal(journal, done.values()) as lines:
        changed = {name: path for name, path in files.items() if done.get(name) != _state(name, path)}
        for name, path in changed.items():
            line = _state(name, path)
            with _reported(remote):
                store.put_file(str(path), f"{root}/{name}")
            append_line(lines, line)
    return len(changed)


@contextmanager
def _held(folder: Path, last: Callable[[str], bool]) -> Iterator[Mapping[str, Path]]:
    """Yield name to path of the folder's files; those that come last are links, which a rename does not change."""
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (LOCK_NAME, _SENT, _FETCHED) and path.suffix != TEMP_SUFFIX
    )
    links = {}
    try:
        for name in filter(last, names):
            link = folder / f"{name}.{os.getpid()}{TEMP_SUFFIX}"
            os.link(folder / name, link)
            links[name] = link
        yield {name: folder / name for name in names if name not in links} | links
    finally:
        for link in links.values():
            link.unlink(missing_ok=True)


def _state(name: str, path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"name": name, "size": status.st_size, "version": str(status.st_mtime_ns)}


def _version(entry: Mapping[str, Any]) -> str:
    found = next(
        (entry[key] for key in ("ETag", "etag", "LastModified", "mtime", "created") if entry.get(key)), ""
    )
    return str(found)


@contextmanager
def _reported(remote: RemoteFolder) -> Iterator[None]:
    """Report what goes wrong with the store in one paragraph; of its own kinds of error, not all are OSErrors."""
    try:
        yield
    except FileNotFoundError:
        raise BadDataError(f"There is no bucket or object at {remote.url}.") from None
    except UnavailableError:
        raise
    except Exception as error:
        raise UnavailableError(
            f"The object store of {remote.url} failed: {type(error).__name__}: {error}. Check the address, "
            "--endpoint_url, the keys in the environment and the free space, and run the same command again, which "
            "continues."
        ) from error


def _lacking(package: str) -> UnavailableError:
    return UnavailableError(
        f"Object stores need the optional package {package}, which is not installed here. Type: make extras"
    )
