from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from packing import packed_by_one

import preprocess.pack as pack_module
from preprocess.pack import main
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.recipe import load_recipe

CLIPS = ("land_427x240", "port_240x427", "odd_341x257", "one_320x240")


@pytest.fixture
def data(tmp_path: Path, fixtures: Path) -> tuple[Path, Path]:
    """(data root, list) over the synthetic frames."""
    root = fixtures / "synth"
    lines = [
        f"{name} {len(list((root / name).glob('img_*.jpg')))} {label}" for label, name in enumerate(CLIPS)
    ]
    ann = tmp_path / "list.txt"
    ann.write_text("\n".join(lines) + "\n")
    return root, ann


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_tensors_match_the_original_pipeline(data: tuple[Path, Path], tmp_path: Path, fixtures: Path):
    truth = np.load(fixtures / "mmaction2" / "synth_only" / "pre_tsm_sthv2.test.npz")
    by_crc = {
        key.split("/")[1].split(":")[0]: int(truth[key]) for key in truth.files if key.endswith("|out_crc32")
    }
    store = packed_by_one(
        recipe=load_recipe("tsm_sthv2"), data_root=data[0], ann_file=data[1], output_dir=tmp_path / "s"
    )
    assert {sample.id for sample in store.samples.values()} == set(CLIPS)
    for clip_file in store.files:
        (index,) = clip_file.samples
        assert clip_file.crc32 == by_crc[store.samples[index].id]
        store.check_content(clip_file)


def test_uint8_becomes_float32_by_the_normalisation_left_to_the_graph(
    data: tuple[Path, Path], tmp_path: Path
):
    recipe = load_recipe("tsm_k400")
    made = {
        dtype: packed_by_one(
            recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / dtype, dtype=dtype
        )
        for dtype in ("float32", "uint8")
    }
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (recipe.views.mean, recipe.views.std))
    for normal, raw in zip(made["float32"].files, made["uint8"].files, strict=True):
        assert normal.bytes == 4 * raw.bytes
        pixels = made["uint8"].read(raw).astype(np.float32)
        np.testing.assert_array_equal((pixels - mean) / std, made["float32"].read(normal))


def test_batched_files_hold_the_samples_of_single_files_and_padding(data: tuple[Path, Path], tmp_path: Path):
    recipe = load_recipe("tsm_k400")
    single = packed_by_one(recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "1")
    triple = packed_by_one(
        recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "3", batch_size=3
    )
    assert [(f.samples, f.padding) for f in triple.files] == [((0, 1, 2), 0), ((3,), 2)]
    rows = np.concatenate([triple.read(clip_file) for clip_file in triple.files])
    np.testing.assert_array_equal(
        rows, np.concatenate([single.read(clip_file) for clip_file in single.files])
    )
    assert (tmp_path / "1" / "k400.info").read_text() == "0 0\n1 1\n2 2\n3 3\n"


def test_two_workers_write_the_same_bytes_as_one(data: tuple[Path, Path], tmp_path: Path):
    recipe = load_recipe("tsm_k400")
    for workers in (1, 2):
        packed_by_one(
            recipe=recipe,
            data_root=data[0],
            ann_file=data[1],
            output_dir=tmp_path / str(workers),
            workers=workers,
        )
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_an_unreadable_video_fails_or_is_skipped_and_is_retried(data: tuple[Path, Path], tmp_path: Path):
    root, ann = tmp_path / "root", data[1]
    root.symlink_to(data[0])
    frames = len(list((data[0] / CLIPS[0]).iterdir()))
    ann.write_text(f"no_such {frames} 0\n" + ann.read_text())
    recipe, output = load_recipe("tsm_k400"), tmp_path / "s"
    with pytest.raises(BadDataError, match=r"Sample 0 of the list \(no_such\).*on_bad skip"):
        packed_by_one(recipe=recipe, data_root=root, ann_file=ann, output_dir=output)
    store = packed_by_one(recipe=recipe, data_root=root, ann_file=ann, output_dir=output, on_bad="skip")
    assert [skip.id for skip in store.skipped] == ["no_such"]
    assert sorted(store.samples) == [1, 2, 3, 4]
    assert (output / "k400.info").read_text().startswith("1 0\n")

    root.unlink()
    root.mkdir()
    for name in CLIPS:
        (root / name).symlink_to(data[0] / name)
    (root / "no_such").symlink_to(data[0] / CLIPS[0])
    repaired = packed_by_one(recipe=recipe, data_root=root, ann_file=ann, output_dir=output)
    assert repaired.skipped == ()
    assert repaired.files[0].crc32 == repaired.files[1].crc32


def test_a_store_larger_than_the_disk_is_rejected_before_the_first_write(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = load_recipe("tsm_sthv2")
    monkeypatch.setattr(pack_module, "free_bytes", lambda _: 80_000_000)
    with pytest.raises(UnavailableError, match=r"needs 151\.0 MB.*--limit 2 .*--dtype uint8"):
        packed_by_one(recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "s")
    assert not list((tmp_path / "s" / "clips").iterdir())
    assert (
        len(
            packed_by_one(
                recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "t", limit=2
            ).files
        )
        == 2
    )


def test_different_settings_in_the_same_folder_are_rejected(data: tuple[Path, Path], tmp_path: Path):
    recipe = load_recipe("tsm_k400")
    packed_by_one(recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "s")
    with pytest.raises(UsageError, match="dtype 'float32' there, 'uint8' requested"):
        packed_by_one(
            recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=tmp_path / "s", dtype="uint8"
        )


def test_a_truncated_file_is_detected_and_rewritten_by_a_rerun(data: tuple[Path, Path], tmp_path: Path):
    recipe, output = load_recipe("tsm_k400"), tmp_path / "s"
    packed_by_one(recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=output)
    before = content(output)
    with (output / "clips" / "000001.bin").open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(BadDataError, match=r"000001\.bin.*has 1000"):
        ClipStore.open(output).check_sizes()
    packed_by_one(recipe=recipe, data_root=data[0], ann_file=data[1], output_dir=output)
    assert content(output) == before


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(data: tuple[Path, Path], tmp_path: Path):
    root, ann = data
    # Many samples over the same frames, each with its own name.
    links = tmp_path / "root"
    links.mkdir()
    lines = []
    for number in range(60):
        name = CLIPS[number % 3]
        (links / f"v{number}").symlink_to(root / name)
        lines.append(f"v{number} {len(list((root / name).iterdir()))} {number % 7}")
    ann.write_text("\n".join(lines))
    words = ["--recipe", "tsm_sthv2", "--data_root", str(links), "--ann_file", str(ann), "--dtype", "uint8"]
    main([*words, "--output_dir", str(tmp_path / "uninterrupted"), "--workers", "1"])

    command = [
        sys.executable,
        "-m",
        "preprocess.pack",
        *words,
        "--workers",
        "2",
        "--output_dir",
        str(tmp_path / "killed"),
    ]
    process = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    clips = tmp_path / "killed" / "clips"
    while process.poll() is None and len(list(clips.glob("*.bin"))) < 5:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    (clips / f"000003.bin.{2**22 + 1}.part").write_bytes(b"truncated")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " 60 files to write" not in done.stderr
    assert content(tmp_path / "killed") == content(tmp_path / "uninterrupted")


def test_the_command_prints_the_plan_and_the_store(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(
        [
            "--recipe",
            "tsm_k400",
            "--data-root",
            str(data[0]),
            "--ann-file",
            str(data[1]),
            "--output-dir",
            str(tmp_path / "s"),
        ]
    )
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "s")
    assert "4 samples of 8x3x224x224 float32, 4.8 MB each; 4 files to write, 19.3 MB" in captured.err
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["recipe"] == "tsm_k400"
