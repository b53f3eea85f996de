from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidom.errors import BadDataError, UsageError
from vidom.files import crc32_file
from vidom.formats.clip_store import ClipFile, ClipStore, Packed, Sample, Skipped, StoreHeader, read_info
from vidom.formats.clip_store_writer import ClipStoreWriter

HEADER = StoreHeader(
    recipe="r", recipe_sha256="ab", list_sha256="cd", dtype="uint8", shape=(2, 3), layout="NCHW",
    normalised=False, samples_per_file=2, decoder="none",
)  # fmt: skip
BAD = 3
COUNT = 7


def tensor(index: int) -> np.ndarray:
    return np.full((2, 3), index, np.uint8)


def add_group(writer: ClipStoreWriter, start: int, *, bad: int | None) -> None:
    """The group of list positions from `start` is in the store, all but `bad`."""
    group = range(start, min(start + 2, COUNT))
    good = [index for index in group if index != bad]
    name = writer.file_name(start)
    rows = [tensor(index) for index in good] + [tensor(good[0])] * (2 - len(good))
    (writer.clips / name).write_bytes(np.stack(rows).tobytes())
    clip_file = ClipFile(name, HEADER.file_bytes, crc32_file(writer.clips / name), tuple(good), 2 - len(good))
    skipped = [Skipped(index, f"v{index}", f"v{index}.mp4", "no frames") for index in group if index == bad]
    samples = [Sample(index, f"ü{index}", index % 2, f"v{index}.mp4", (0, index)) for index in good]
    writer.add(Packed((clip_file,), tuple(samples), tuple(skipped)))


def write(folder: Path, *, bad: int | None = BAD, starts: tuple[int, ...] = (0, 2, 4, 6)) -> ClipStoreWriter:
    writer = ClipStoreWriter(folder, HEADER)
    for start in starts:
        if not {start, min(start + 1, COUNT - 1)} <= writer.finished:
            add_group(writer, start, bad=bad)
    return writer


def finished(folder: Path, **options: Any) -> ClipStore:
    write(folder, **options).finish(["zero", "one"], "names.info")
    return ClipStore.open(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_written_is_read_back(tmp_path: Path):
    store = finished(tmp_path / "s")
    assert store.header == HEADER and store.labels == ("zero", "one")
    assert [clip_file.samples for clip_file in store.files] == [(0, 1), (2,), (4, 5), (6,)]
    assert [clip_file.padding for clip_file in store.files] == [0, 1, 0, 1]
    assert store.samples[5] == Sample(5, "ü5", 1, "v5.mp4", (0, 5)) and BAD not in store.samples
    assert store.skipped == (Skipped(BAD, "v3", "v3.mp4", "no frames"),)
    store.check_sizes()
    for clip_file in store.files:
        store.check_content(clip_file)
        np.testing.assert_array_equal(store.read(clip_file), np.stack([tensor(i) for i in clip_file.samples]))
    assert (HEADER.sample_bytes, HEADER.file_bytes) == (6, 12)
    assert (tmp_path / "s" / "names.info").read_text() == "0 0\n1 1\n2 0\n4 0\n5 1\n6 0\n"
    assert ClipStore.open(tmp_path / "s" / "clips") == store
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "clips",
        "manifest.json",
        "names.info",
    ]


def test_a_float_store_keeps_its_values(tmp_path: Path):
    header = replace(HEADER, dtype="float32", samples_per_file=1)
    writer = ClipStoreWriter(tmp_path, header)
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    (writer.clips / "000000.bin").write_bytes(values.tobytes())
    crc = crc32_file(writer.clips / "000000.bin")
    writer.add(Packed((ClipFile("000000.bin", 24, crc, (0,), 0),), (Sample(0, "a", 0, "", ()),), ()))
    writer.finish(["a"], "a.info")
    store = ClipStore.open(tmp_path)
    np.testing.assert_array_equal(store.read(store.files[0]), values[None], strict=True)


def test_a_manifest_without_words_about_views_is_of_whole_samples(tmp_path: Path):
    store = finished(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    for key in ("views_per_sample", "average_clips"):
        del document[key]
    for entry in document["files"]:
        del entry["view"]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    assert ClipStore.open(tmp_path) == store


def test_stopped_anywhere_and_resumed_it_has_the_same_bytes(tmp_path: Path):
    finished(tmp_path / "whole")
    for done in range(5):
        folder = tmp_path / str(done)
        writer = write(folder, starts=(0, 2, 4, 6)[:done])
        # What a kill may leave: half a journal line, half a file under its temporary name.
        journal = folder / "manifest.journal.jsonl"
        journal.write_text(journal.read_text() + '{"file": {"na')
        (writer.clips / f"000003.bin.{2**22 + 1}.part").write_bytes(b"half")
        finished(folder)
        assert contents(folder) == contents(tmp_path / "whole")


def test_a_journal_torn_in_its_first_line_starts_anew(tmp_path: Path):
    finished(tmp_path / "whole")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "manifest.journal.jsonl").write_text('{"recipe": "r')
    finished(tmp_path / "s")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_what_was_skipped_or_damaged_is_tried_again_and_nothing_else(tmp_path: Path):
    store = finished(tmp_path)
    (tmp_path / "clips" / "000002.bin").write_bytes(b"cut")
    writer = ClipStoreWriter(tmp_path, HEADER)
    # 000001 lacks the skipped sample 3, 000002 (samples 4 and 5) was cut short.
    assert writer.finished == {0, 1, 6}
    for start in (2, 4):
        add_group(writer, start, bad=None)
    writer.finish(["zero", "one"], "names.info")
    repaired = ClipStore.open(tmp_path)
    assert set(repaired.samples) == set(range(COUNT)) and repaired.skipped == ()
    assert repaired.files[2] == store.files[2] and repaired.files[1].padding == 0


def test_a_finished_clip_whose_bytes_became_zeros_is_written_again(tmp_path: Path):
    for name, starts in (("finished", (0, 2, 4, 6)), ("begun", (0, 2))):
        folder = tmp_path / name
        writer = write(folder, starts=starts, bad=None)
        if name == "finished":
            writer.finish(["zero", "one"], "names.info")
        (folder / "clips" / "000001.bin").write_bytes(bytes(HEADER.file_bytes))
        assert {2, 3} & ClipStoreWriter(folder, HEADER).finished == set()
        assert {0, 1} <= ClipStoreWriter(folder, HEADER).finished


def test_a_journal_cut_inside_a_letter_resumes(tmp_path: Path):
    finished(tmp_path / "whole")
    write(tmp_path / "s", starts=(0, 2, 4))
    journal = tmp_path / "s" / "manifest.journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.rindex("ü".encode()) + 1])
    writer = ClipStoreWriter(tmp_path / "s", HEADER)
    assert writer.finished == {0, 1}
    finished(tmp_path / "s")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "line",
    [
        "7",
        "{}",
        '{"files": 1, "samples": [], "skipped": []}',
        '{"files": [{"name": "../../x"}], "samples": [], "skipped": []}',
        '{"files": [{"name": "../names.info", "bytes": 12, "crc32": 0, "samples": [4, 5], "padding": 0}], '
        '"samples": [{"index": 4, "id": "a", "label": 0, "source": "", "frames": []}, '
        '{"index": 5, "id": "a", "label": 0, "source": "", "frames": []}], "skipped": []}',
        '{"files": [], "samples": [{"index": 4, "id": "a", "label": 0, "source": "", "frames": []}], "skipped": []}',
    ],
)
def test_a_line_of_a_journal_that_records_no_group_is_packed_again(line: str, tmp_path: Path):
    finished(tmp_path / "whole")
    write(tmp_path / "s", starts=(0,))
    with (tmp_path / "s" / "manifest.journal.jsonl").open("a") as journal:
        journal.write(f"{line}\n")
    assert ClipStoreWriter(tmp_path / "s", HEADER).finished == {0, 1}
    finished(tmp_path / "s")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "foreign", ["manifest.json", "names.info", "clips/000000.bin", "clips/my.part", "thesis.tex", ".git"]
)
def test_a_folder_that_holds_anything_else_is_not_touched(foreign: str, tmp_path: Path):
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text('{"name": "a web page", "files": []}')
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=re.escape(foreign.partition("/")[0])):
        ClipStoreWriter(tmp_path, HEADER)
    assert contents(tmp_path) == before


def test_a_folder_in_which_a_run_was_killed_at_its_start_is_used(tmp_path: Path):
    (tmp_path / ".lock").touch()
    (tmp_path / f"manifest.journal.jsonl.{os.getppid()}.part").touch()
    assert ClipStoreWriter(tmp_path, HEADER).finished == set()


def test_other_settings_are_refused_and_listed(tmp_path: Path):
    before = contents(finished(tmp_path / "done").folder)
    with pytest.raises(UsageError, match=r"dtype 'uint8' there, 'float32' requested") as caught:
        ClipStoreWriter(tmp_path / "done", replace(HEADER, dtype="float32"))
    assert "recipe" not in str(caught.value)
    assert contents(tmp_path / "done") == before
    write(tmp_path / "begun", starts=(0,))
    with pytest.raises(UsageError, match=r"shape \[2, 3\] there, \[3, 2\] requested"):
        ClipStoreWriter(tmp_path / "begun", replace(HEADER, shape=(3, 2)))


def test_files_that_are_not_as_packed_are_found(tmp_path: Path):
    store = finished(tmp_path)
    path = tmp_path / "clips" / "000002.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    store.check_sizes()
    with pytest.raises(BadDataError, match=r"000002\.bin does not have the checksum"):
        store.check_content(store.files[2])
    path.write_bytes(content[:-1])
    for check in (store.check_sizes, lambda: store.read(store.files[2])):
        with pytest.raises(BadDataError, match=r"000002\.bin should have 12 bytes and has 11"):
            check()
    path.unlink()
    for check in (store.check_sizes, lambda: store.read(store.files[2])):
        with pytest.raises(BadDataError, match=r"000002\.bin should have 12 bytes and is missing"):
            check()


def drop_a_sample(document: Any) -> None:
    del document["samples"][0]


def name_a_sample_twice(document: Any) -> None:
    document["files"][0]["samples"] = [0, 0]


def list_a_sample_twice(document: Any) -> None:
    document["samples"].append(document["samples"][0])


def drop_a_key(document: Any) -> None:
    del document["labels"]


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        drop_a_sample,
        name_a_sample_twice,
        list_a_sample_twice,
        drop_a_key,
        put("version", value=99),
        put("dtype", value="object"),
        put("dtype", value="no such dtype"),
        put("shape", value=[2, -3]),
        put("shape", value=["2", "3"]),
        put("shape", value=[]),
        put("samples_per_file", value="2"),
        put("samples", value=None),
        put("samples", 0, value=7),
        put("samples", 0, "label", value="zero"),
        put("samples", 0, "more", value=1),
        put("files", 0, "bytes", value=None),
        put("files", 0, "name", value=5),
        put("skipped", 0, "reason", value=[]),
        put("shape", value=[True, 3]),
        put("shape", value=[2**40, 2**40]),
        put("samples_per_file", value=0),
        put("samples_per_file", value=True),
        put("views_per_sample", value=10**12),
        put("samples", 0, "index", value=True),
        put("samples", 0, "label", value=-1),
        put("samples", 0, "label", value=1e999),
        put("samples", 0, "frames", value=[0, 1e999]),
        put("files", 0, "crc32", value=1e999),
        put("labels", value=["zero", 1]),
        put("labels", value="zero"),
        put("samples", 0, value={"index": "\x1b[2J" * 100_000}),
    ],
)
def test_damaged_manifests_are_bad_data(damage: Callable[[Any], None], tmp_path: Path):
    finished(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    damage(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BadDataError, match=r"[Pp]ack (it|the store) again|is not valid JSON") as refusal:
        ClipStore.open(tmp_path)
    assert len(str(refusal.value)) < 1000 and "\x1b" not in str(refusal.value)


def test_a_manifest_that_is_no_document_is_bad_data(tmp_path: Path):
    finished(tmp_path)
    whole = (tmp_path / "manifest.json").read_text()
    for content in (whole[: len(whole) // 2], "[]", "null", '"text"', ""):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(BadDataError, match="manifest"):
            ClipStore.open(tmp_path)
    with pytest.raises(BadDataError, match="does not exist"):
        ClipStore.open(tmp_path / "elsewhere")


def test_manifests_of_the_campaign_are_bad_data(fixtures: Path, tmp_path: Path):
    paths = sorted((fixtures / "attacks").glob("manifest_*.json"))
    assert len(paths) == 3
    for path in paths:
        (tmp_path / "manifest.json").write_bytes(path.read_bytes())
        with pytest.raises(BadDataError):
            ClipStore.open(tmp_path).check_sizes()


@pytest.mark.parametrize(
    "name",
    [
        "../names.info",
        "/etc/passwd",
        "sub/000000.bin",
        "0" * 300 + ".bin",
        "a\0.bin",
        "\x1b[2J.bin",
        "..",
        "",
    ],
)
def test_a_name_that_leaves_the_store_is_refused(name: str, tmp_path: Path):
    finished(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    document["files"][0]["name"] = name
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    store = ClipStore.open(tmp_path)
    for access in (store.check_sizes, lambda: store.read(store.files[0])):
        with pytest.raises(BadDataError, match="not a plain file name"):
            access()


def test_labels_are_read_by_index_not_by_position(tmp_path: Path):
    (tmp_path / "a.info").write_text("3 1\n0 5\r\n10 0\n\n")
    assert read_info(tmp_path / "a.info") == {3: 1, 0: 5, 10: 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1\n1\n", "Line 2 of"),
        ("0 1 2\n", "two integers"),
        ("0 -1\n", "two integers"),
        ("0 cat\n", "two integers"),
        ("0 ²\n", "two integers"),
        ("0 1\n0 1\n", "Line 2 of .* gives sample 0 a second time"),
    ],
)
def test_label_lists_that_are_none_are_bad_data(text: str, words: str, tmp_path: Path):
    (tmp_path / "a.info").write_text(text)
    with pytest.raises(BadDataError, match=words):
        read_info(tmp_path / "a.info")
