from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.packing import variants as packing_variants
from benchmarks.packing.packing_benchmark import PackingOptions, packing
from benchmarks.packing.variants import frame_folders, plain_by_crop, plain_sample
from preprocess.sources.frames import RawFrames
from vidom.errors import CheckFailedError, UsageError
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.recipe import load_recipe

SYNTH = Path(__file__).parents[1] / "fixtures" / "synth"
FOLDERS = [SYNTH / "i3d_340x256", SYNTH / "land_427x240"]


def run(output_dir: Path, **options: object):
    small = {"rounds": 1, "samples": 10, "parallel_samples": 20}
    return packing(PackingOptions(frames=tuple(FOLDERS), output_dir=output_dir, **{**small, **options}))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_report_has_every_variant_stage_and_size(tmp_path: Path):
    report = run(tmp_path)
    document = json.loads((tmp_path / "packing.json").read_text())
    made, stages, workers, scaling = document["tables"]
    times = {row[0]: row[1] for row in made["rows"]}
    assert [target["what"] for target in document["targets"]] == [
        "float32, speedup over plain",
        "uint8, speedup over plain",
        "two workers, speedup over one, float32",
        "two workers, speedup over one, uint8",
    ]
    plain = times["plain: stacked, normalised, transposed"]
    assert report.targets[0].measured == pytest.approx(plain / times["vidom, float32"])
    assert report.targets[1].measured == pytest.approx(plain / times["vidom, uint8"])
    # The stages of float32 add up to it.
    parts = [row[1] for row in stages["rows"] if "uint8" not in row[0] and "checksum" not in row[0]]
    assert sum(parts) == pytest.approx(times["vidom, float32"])
    assert [row[0] for row in workers["rows"]] == ["float32", "uint8"]
    assert [row[0] for row in scaling["rows"]] == [10]
    assert (tmp_path / "packing.png").stat().st_size > 10_000
    assert (tmp_path / "packing.md").read_text() == report.text


def test_a_plain_variant_with_different_bytes_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing_variants, "_normalise", lambda image, plan: None)
    with pytest.raises(CheckFailedError, match="differ from vidom's for"):
        run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_plain_variants_are_numpy_arithmetic():
    plan = load_recipe("tsm_sthv2", ["views.short_side=64", "views.crop_size=64"]).views
    (source,) = frame_folders([SYNTH / "port_240x427"], FrameNaming())
    assert source == RawFrames(source.folder, len(list(source.folder.iterdir())))
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (plan.mean, plan.std))
    crops = np.stack(packing_variants._crops(source, plan))[..., ::-1].transpose(0, 3, 1, 2)
    expected = (crops.astype(np.float32) - mean) / std
    np.testing.assert_array_equal(plain_sample(source, plan), expected)
    np.testing.assert_array_equal(plain_by_crop(source, plan), expected)


def test_a_folder_without_frames_is_rejected(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no frame such as img_00001\.jpg in"):
        frame_folders([tmp_path], FrameNaming())
    with pytest.raises(UsageError, match="--samples must be at least 10"):
        run(tmp_path, samples=2)
