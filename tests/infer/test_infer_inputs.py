from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from clip_stores import store
from onnx_models import rows_of, write_rows

from infer.batches.inputs import natural_key, plan_batches
from infer.batches.reading import BatchReader
from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError, UsageError


def spec(batch: int, width: int = 4, dtype: str = "float32", name: str = "x") -> TensorSpec:
    return TensorSpec(name, (batch, width), np.dtype(dtype))


def test_numbers_are_sorted_by_value_anywhere_in_the_path():
    assert sorted(["v/10.bin", "v/9.bin", "v/1.bin"], key=natural_key) == ["v/1.bin", "v/9.bin", "v/10.bin"]
    # The folder's number counts too, upper and lower case do not, and 07 equals 7 until the text decides.
    assert sorted(["d10/a.bin", "d9/b.bin"], key=natural_key) == ["d9/b.bin", "d10/a.bin"]
    assert sorted(["b.bin", "A.bin", "a2.bin", "A10.bin"], key=natural_key) == [
        "a2.bin", "A10.bin", "A.bin", "b.bin",
    ]  # fmt: skip
    assert sorted(["a7", "a07", "a007"], key=natural_key) == ["a007", "a07", "a7"]
    # A superscript is a digit to Python but no number.
    assert sorted(["a²", "a1"], key=natural_key) == ["a1", "a²"]


def test_a_folder_gives_its_bin_and_npy_files_in_natural_order_as_typed(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "sub.bin").mkdir()
    for name in ("c10.bin", "c9.BIN", "notes.txt", "c1.Bin", "x.bin.part"):
        (folder / name).write_bytes(bytes(16))
    np.save(folder / "a.npy", np.zeros((1, 4), np.float32))
    plan = plan_batches(f"{folder}/", [spec(1)])
    assert [entry[0].path for entry in plan.entries] == [
        f"{folder}/{n}" for n in ("a.npy", "c9.BIN", "c10.bin")
    ]


@pytest.mark.parametrize(
    ("batch", "files", "runs", "padded"),
    [(1, 5, 5, 0), (2, 5, 3, 1), (3, 5, 2, 1), (4, 5, 2, 3), (8, 5, 1, 3)],
)
def test_a_batch_holds_the_files_in_order_and_its_own_first_file_as_padding(
    batch: int, files: int, runs: int, padded: int, tmp_path: Path
):
    rows = rows_of(files)
    plan = plan_batches(str(write_rows(tmp_path / "in", rows)), [spec(batch)])
    assert (plan.runs, plan.padded_rows, plan.samples) == (runs, padded, files)
    reader = BatchReader(plan, [spec(batch)])
    for number in range(runs):
        part = rows[number * batch : (number + 1) * batch]
        wanted = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
        np.testing.assert_array_equal(reader.read(number)[0], wanted)


def test_a_file_may_hold_several_rows(tmp_path: Path):
    rows = rows_of(6)
    plan = plan_batches(str(write_rows(tmp_path / "in", rows.reshape(3, 2, 4))), [spec(4)])
    assert (plan.files_per_batch, plan.runs, plan.samples, plan.padded_rows) == (2, 2, 6, 2)
    reader = BatchReader(plan, [spec(4)])
    np.testing.assert_array_equal(reader.read(0)[0], rows[:4])
    np.testing.assert_array_equal(reader.read(1)[0], rows[[4, 5, 4, 5]])


def test_several_inputs_take_a_folder_each_or_their_share_of_the_files(tmp_path: Path):
    a, b = rows_of(3), np.arange(6, dtype=np.int32).reshape(3, 2)
    write_rows(tmp_path / "a", a)
    write_rows(tmp_path / "b", b)
    specs = [spec(2, name="a"), spec(2, 2, "int32", "b")]
    folders = f"{tmp_path}/a,{tmp_path}/b"
    files = ",".join(f"{tmp_path}/{folder}/video_{k}.bin" for folder in "ab" for k in range(3))
    for argument in (folders, files, folders.split(",")):
        plan = plan_batches(argument, specs)
        reader = BatchReader(plan, specs)
        first, second = reader.read(1)
        np.testing.assert_array_equal(first, a[[2, 2]])
        np.testing.assert_array_equal(second, b[[2, 2]])


def test_npy_inputs_give_the_same_batch_as_bin(tmp_path: Path):
    rows = rows_of(3)
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "video_0.npy", rows[:1])
    np.save(tmp_path / "npy" / "video_1.npy", rows[1])
    np.save(tmp_path / "npy" / "video_2.NPY.npy", np.asfortranarray(rows[2:]))
    plan = plan_batches(tmp_path / "npy", [spec(3)])
    np.testing.assert_array_equal(BatchReader(plan, [spec(3)]).read(0)[0], rows)


def test_npy_inputs_of_another_dtype_or_shape_or_damaged_are_refused(tmp_path: Path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((1, 4), np.int32))
    with pytest.raises(UsageError, match=r"a\.npy holds int32.*takes float32"):
        plan_batches(path, [spec(1)])
    np.save(path, np.zeros((2, 2), np.float32))
    with pytest.raises(BadDataError, match=re.escape("shape (2, 2)")):
        plan_batches(path, [spec(1)])
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(BadDataError, match=r"a\.npy is not a readable"):
        plan_batches(path, [spec(1)])
    np.save(path, np.zeros((1, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadDataError, match=r"a\.npy is not a readable"):
        plan_batches(path, [spec(1)])


def test_every_file_is_checked_not_only_the_first(tmp_path: Path):
    folder = write_rows(tmp_path / "in", rows_of(4))
    (folder / "video_3.bin").write_bytes(bytes(15))
    with pytest.raises(BadDataError, match=r"video_3\.bin has 15 bytes, expected 16"):
        plan_batches(str(folder), [spec(2)])
    (folder / "video_3.bin").write_bytes(bytes(32))
    with pytest.raises(BadDataError, match=r"video_3\.bin has 32 bytes, expected 16"):
        plan_batches(str(folder), [spec(2)])


@pytest.mark.parametrize("size", [0, 8, 12, 48, 128])
def test_a_first_file_that_is_no_whole_part_of_the_batch_is_refused(size: int, tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(bytes(size))
    with pytest.raises(BadDataError, match=rf"a\.bin has {size} bytes.*64 bytes"):
        plan_batches(tmp_path / "a.bin", [spec(4)])


def test_uint8_bytes_for_a_float32_model_are_not_taken_for_a_quarter_of_a_batch(tmp_path: Path):
    """ais_bench packs four such files into one garbage row and exits 0."""
    folder = write_rows(tmp_path / "in", np.zeros((8, 4), np.uint8))
    with pytest.raises(BadDataError, match="dtype or shape that differs"):
        plan_batches(str(folder), [spec(4)])


def test_two_files_of_one_stem_are_refused(tmp_path: Path):
    folder = write_rows(tmp_path / "in", rows_of(2), ["clip.v1.bin", "clip.v2.bin"])
    with pytest.raises(BadDataError, match=r"clip\.v1\.bin and .*clip\.v2\.bin would write the same output"):
        plan_batches(str(folder), [spec(1)])


def test_an_input_that_does_not_add_up_is_refused(tmp_path: Path):
    one = write_rows(tmp_path / "one", rows_of(3))
    two = write_rows(tmp_path / "two", np.zeros((2, 2), np.int32))
    (tmp_path / "empty").mkdir()
    pair = [spec(1, name="a"), spec(1, 2, "int32", "b")]
    cases = [
        (f"{tmp_path}/nowhere", [spec(1)], UsageError, "nowhere.*does not exist"),
        (f"{one},", [spec(1)], UsageError, "does not exist"),
        (f"{tmp_path}/empty", [spec(1)], BadDataError, r"holds no \.bin"),
        (f"{one},{one}", [spec(1)], UsageError, "2 folders, the model has 1"),
        (f"{one},{one}/video_0.bin", pair, UsageError, "mixes files and folders"),
        (f"{one}/video_0.bin", pair, UsageError, "1 files.*2 model inputs"),
        (f"{one},{two}", pair, BadDataError, "'a' 3, 'b' 2"),
        ([], [spec(1)], UsageError, "0 files"),
    ]
    for argument, specs, kind, words in cases:
        with pytest.raises(kind, match=words):
            plan_batches(argument, specs)


def test_a_clip_store_is_checked_against_the_model(tmp_path: Path):
    clips = store(tmp_path / "float", rows_of(3))
    plan = plan_batches(str(clips), [spec(2)])
    assert [Path(entry[0].path).name for entry in plan.entries] == ["000000.bin", "000001.bin", "000002.bin"]
    bytes_clips = store(tmp_path / "bytes", np.zeros((3, 4), np.uint8))
    with pytest.raises(
        UsageError, match=r"4 × 1 = 4 bytes.*4 × 4 = 16 bytes.*--input_dtype uint8.*--dtype float32"
    ):
        plan_batches(str(bytes_clips), [spec(4)])
    with pytest.raises(UsageError, match=r"--input_dtype float32, or pack with --dtype uint8"):
        plan_batches(str(clips), [spec(4, dtype="uint8")])
    with pytest.raises(UsageError, match=r"2×2 × 4 = 16 bytes.*with the recipe"):
        plan_batches(str(clips), [TensorSpec("x", (1, 2, 2), np.dtype("float32"))])


def test_damage_to_a_clip_store_is_found(tmp_path: Path):
    clips = store(tmp_path / "s", rows_of(3))
    plan = plan_batches(str(clips), [spec(1)])
    last = clips / "000002.bin"
    content = last.read_bytes()
    last.write_bytes(content[:-1] + b"\0")
    reader = BatchReader(plan, [spec(1)])
    reader.read(1)
    with pytest.raises(BadDataError, match=r"000002\.bin does not have the checksum"):
        reader.read(2)
    last.write_bytes(content[:7])
    with pytest.raises(BadDataError, match=r"000002\.bin should have 16 bytes and has 7"):
        plan_batches(str(clips), [spec(1)])
    with pytest.raises(BadDataError, match=r"000002\.bin changed: it had 16 bytes and now has 7"):
        reader.read(2)
    last.unlink()
    with pytest.raises(BadDataError, match=r"000002\.bin should have 16 bytes and is missing"):
        plan_batches(str(clips), [spec(1)])
    last.write_bytes(content)
    (clips / "000003.bin").write_bytes(content)
    with pytest.raises(
        BadDataError, match=r"000003\.bin is in the clips folder of the store .*, but not in its manifest"
    ):
        plan_batches(str(clips), [spec(1)])


def test_an_unfinished_clip_store_is_refused(tmp_path: Path):
    clips = store(tmp_path / "s", rows_of(3), finish=False)
    with pytest.raises(BadDataError, match="not finished"):
        plan_batches(str(clips), [spec(1)])


def test_rows_that_fill_up_a_file_of_the_store_are_no_samples(tmp_path: Path):
    clips = store(tmp_path / "s", rows_of(5), per_file=2)
    plan = plan_batches(str(clips), [spec(4)])
    # Three files of two rows, two files a batch: the last file and the last batch are both filled up.
    assert (plan.samples, plan.runs, plan.padded_rows) == (5, 2, 3)
    assert plan_batches(f"{clips}/000002.bin", [spec(2)]).samples == 1
