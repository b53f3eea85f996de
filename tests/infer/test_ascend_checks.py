"""What is found before ais_bench is started; it is a stub here, and none of these runs reaches it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import Bench
from onnx_models import rows_of
from run_infer import run_infer

from infer.engines.ascend import checks as ais_checks
from infer.engines.ascend.om_input import plan_om_batches
from infer.engines.engine_options import AscendOptions
from vidom.errors import BadDataError, UnavailableError, UsageError, UserError
from vidom.files import crc32_file
from vidom.formats.clip_store import ClipFile, Packed, Sample, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter


def refused(bench: Bench, kind: type[UserError], **options: object) -> str:
    chosen = {"model": "m.om", "input": "./in", "output": "./out", "output_dirname": "run", **options}
    with pytest.raises(kind) as caught:
        run_infer(engine=AscendOptions(), say=lambda _: None, **chosen)
    assert not list(bench.folder.glob("out/*"))
    return str(caught.value)


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.inputs(rows_of(6))
    bench.model(2)
    return bench


def link(bench: Bench) -> None:
    path = bench.folder / "in" / "video_2.bin"
    path.rename(bench.folder / "elsewhere.bin")
    path.symlink_to(bench.folder / "elsewhere.bin")


def writable_file(bench: Bench) -> None:
    (bench.folder / "in" / "video_2.bin").chmod(0o664)


def writable_folder(bench: Bench) -> None:
    (bench.folder / "in").chmod(0o777)


def writable_model(bench: Bench) -> None:
    (bench.folder / "m.om").chmod(0o666)


def umlaut(bench: Bench) -> None:
    (bench.folder / "in" / "video_2.bin").rename(bench.folder / "in" / "vidéo_2.bin")


def unreadable(bench: Bench) -> None:
    (bench.folder / "in" / "video_2.bin").chmod(0o200)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (link, ["Symbolic links are not followed", "./in/video_2.bin"]),
        (writable_file, ["chmod go-w", "umask 027", "./in/video_2.bin"]),
        (writable_folder, ["chmod go-w", ": ./in."]),
        (writable_model, ["chmod go-w", ": m.om."]),
        (umlaut, ["only the characters", "vidéo_2.bin"]),
        (unreadable, ["chmod u+r", "video_2.bin"]),
    ],
)
def test_paths_that_ais_bench_refuses_are_named(
    spoil: Callable[[Bench], None], words: list[str], ready: Bench
):
    spoil(ready)
    told = refused(ready, UsageError)
    assert all(word.lower() in told.lower() for word in words), told


def test_all_faults_are_told_at_once_and_many_files_by_a_few(ready: Bench):
    for path in (ready.folder / "in").iterdir():
        path.chmod(0o666)
    umlaut(ready)
    told = refused(ready, UsageError)
    assert "and 1 more" in told and "Only the characters" in told


def test_another_owner(ready: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getgroups", lambda: [12345])
    assert "root included; chown" in refused(ready, UsageError)


def test_a_blank_in_the_output(ready: Bench):
    assert "only the characters" in refused(ready, UsageError, output="./o ut").lower()
    assert not (ready.folder / "o ut").exists()


def test_files_of_one_stem_or_of_different_sizes(ready: Bench):
    shutil.copy(ready.folder / "in" / "video_1.bin", ready.folder / "in" / "video_1.x.bin")
    assert "would write the same output, video_1_0" in refused(ready, BadDataError)
    (ready.folder / "in" / "video_1.x.bin").unlink()
    (ready.folder / "in" / "video_3.bin").write_bytes(bytes(15))
    assert "video_3.bin has 15 bytes, expected 16" in refused(ready, BadDataError)


def test_no_room_for_the_outputs(ready: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ais_checks, "free_bytes", lambda _folder: 6 * 4096 - 1)
    assert "24.6 kB" in refused(ready, UnavailableError)


def record(bench: Bench, shape: str, **facts: object) -> None:
    command = ["atc", "--model=m.onnx", f"--input_shape=clips:{shape}", "--soc_version=Ascend310P3"]
    document = {"models": {"m.om": {"made_from": {"command": command, "model_sha256": "0", **facts}}}}
    (bench.folder / "build.json").write_text(json.dumps(document))


def test_the_build_record_tells_the_size_of_the_input(ready: Bench):
    record(ready, "2,4")
    plan = plan_om_batches("./in", Path("m.om"), batch=None, dym_batch=None)
    assert (plan.spec.shape, plan.known_from, plan.batches.files_per_batch) == ((2, 4), "build.json", 2)
    record(ready, "2,48,3")
    told = refused(ready, BadDataError)
    assert "video_0.bin has 16 bytes" in told and "2×48×3" in told


def test_a_model_of_several_batches_needs_the_one_to_run(ready: Bench):
    record(ready, "-1,4")
    assert "--dymBatch N" in refused(ready, UsageError)
    plan = plan_om_batches("./in", Path("m.om"), batch=None, dym_batch=3)
    assert plan.spec.shape == (3, 4) and plan.batches.files_per_batch == 3


def test_another_model_than_the_record_says_stops_the_run(ready: Bench):
    record(ready, "4,4")
    with pytest.raises(BadDataError, match="input has 32 bytes, not the 64"):
        run_infer(model=Path("m.om"), engine=AscendOptions(), input="./in", say=lambda _: None)


def store_of(folder: Path, rows: np.ndarray, dtype: str) -> Path:
    header = StoreHeader("tiny", "0", "0", dtype, rows.shape[1:], "NC", dtype == "float32", 1, "none")
    writer = ClipStoreWriter(folder, header)
    for number, row in enumerate(rows):
        path = writer.clips / writer.file_name(number)
        path.write_bytes(row.astype(dtype).tobytes())
        clip_file = ClipFile(path.name, path.stat().st_size, crc32_file(path), (number,), 0)
        sample = Sample(number, str(number), number % 3, f"v{number}", (1,))
        writer.add(Packed((clip_file,), (sample,), ()))
    writer.finish(["a", "b", "c"], "tiny.info")
    return folder / "clips"


def test_the_clip_store_tells_dtype_and_shape(bench: Bench):
    bench.model(2)
    clips = store_of(bench.folder / "store", rows_of(5), "float32")
    plan = plan_om_batches(str(clips), Path("m.om"), batch=2, dym_batch=None)
    assert (plan.known_from, plan.batch_known, plan.classes) == ("the clip store and --batchsize", True, 3)
    assert (plan.batches.samples, plan.batches.padded_rows) == (5, 1)
    run_infer(
        model=Path("m.om"),
        engine=AscendOptions(),
        input=str(clips),
        output="out",
        output_dirname="a",
        say=lambda _: None,
    )
    assert (bench.facts(name="a")["input_known_from"], bench.facts(name="a")["padded_rows"]) == (
        "the clip store",
        1,
    )
    (clips / "000002.bin").write_bytes(bytes(4))
    with pytest.raises(BadDataError, match=r"000002\.bin should have 16 bytes"):
        plan_om_batches(str(clips), Path("m.om"), batch=2, dym_batch=None)


def test_a_uint8_store_for_a_float32_model_stops_the_run(bench: Bench):
    bench.model(4)
    clips = store_of(bench.folder / "store", np.abs(rows_of(5)), "uint8")
    with pytest.raises(BadDataError, match=r"packs 16 files of 4 bytes into one batch of 4 samples"):
        run_infer(model=Path("m.om"), engine=AscendOptions(), input=str(clips), say=lambda _: None)


@pytest.mark.parametrize("shape", ["2,4", "-1,4", "unknown"])
@pytest.mark.parametrize(
    ("of_store", "of_model"), [("uint8", "float32"), ("float32", "uint8"), ("uint8", "float16")]
)
def test_a_store_of_another_dtype_than_the_record_is_refused_before_the_start(
    bench: Bench, of_store: str, of_model: str, shape: str
):
    bench.model(2)
    clips = store_of(bench.folder / "store", np.abs(rows_of(5)), of_store)
    record(bench, shape, input_dtype=of_model)
    told = refused(bench, UsageError, input=str(clips), dym_batch=2 if shape == "-1,4" else None)
    assert f"holds {of_store} samples" in told and f"takes {of_model} tensors" in told


@pytest.mark.parametrize("dtype", ["brain", ["float32"], "str", 4])
def test_a_record_of_no_dtype_is_damaged(ready: Bench, dtype: object):
    record(ready, "2,4", input_dtype=dtype)
    assert "which no file can have" in refused(ready, BadDataError)
