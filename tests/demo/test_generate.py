"""The data set on disk: Something-Something V2's files, reproducible bytes, resumed after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.generate import GenerateOptions, generate, main, scene_of
from demo.motion_sets import ONE_WAY
from demo.rendering import render_frames
from demo.sthv2_folder import Layout
from preprocess.datasets.annotations import read_annotations
from preprocess.prepare import PrepareOptions, prepare
from preprocess.sources.video import VideoFile
from vidom.errors import UsageError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """One validation clip of each class, extracted."""
    root = tmp_path_factory.mktemp("dataset")
    made = generate(GenerateOptions(output_dir=root, validation_clips=1, workers=1))
    prepare(PrepareOptions(dataset="sthv2", src=root, out=root, num_classes=12, decoder="pyav"))
    return made


@pytest.mark.slow
def test_annotations_have_the_official_form(dataset: Layout) -> None:
    numbers = json.loads((dataset.root / "annotations/something-something-v2-labels.json").read_text())
    assert numbers == {name: str(number) for number, name in enumerate(ONE_WAY.names)}
    entries = json.loads((dataset.root / "annotations/something-something-v2-validation.json").read_text())
    assert [set(entry) for entry in entries] == [{"id", "label", "template", "placeholders"}] * 12
    for number, entry in enumerate(entries):
        assert entry["id"].isdigit()
        assert numbers[entry["template"].replace("[", "").replace("]", "")] == str(number)
        (thing,) = entry["placeholders"]
        assert entry["label"] == ONE_WAY.motions[number].template.replace("[something]", thing).lower()
    assert json.loads((dataset.root / "annotations/something-something-v2-train.json").read_text()) == []


def test_lists_have_mmaction2s_form_and_agree_with_the_files(dataset: Layout) -> None:
    frames = (dataset.root / "sthv2_val_list_rawframes.txt").read_text().splitlines()
    videos = (dataset.root / "sthv2_val_list_videos.txt").read_text().splitlines()
    assert len(frames) == len(videos) == 12
    for number, (frame_line, video_line) in enumerate(zip(frames, videos, strict=True)):
        name, count, label = frame_line.split()
        assert video_line == f"{name}.webm {label}"
        assert int(label) == number
        files = sorted(path.name for path in (dataset.root / "rawframes" / name).iterdir())
        assert files == [f"img_{i:05d}.jpg" for i in range(1, int(count) + 1)]
        assert int(count) == scene_of("validation", number, seed=0).length
    assert not (dataset.root / "sthv2_train_list_videos.txt").exists()
    read = read_annotations(dataset.frame_list("validation"), num_classes=12)
    assert [annotation.label for annotation in read] == list(range(12))


def test_videos_and_frames_show_the_rendered_scene(dataset: Layout) -> None:
    for index in (0, 7):
        scene = scene_of("validation", index, seed=0)
        name = str(200_000 + index)
        rendered = render_frames(scene, [0, scene.length - 1]).astype(int)
        decoded = list(VideoFile(dataset.video(name)).read([0, scene.length - 1]))
        stills = [
            cv2.imread(str(dataset.frames(name) / f"img_{number:05d}.jpg"))[..., ::-1]
            for number in (1, scene.length)
        ]
        for truth, *shown in zip(rendered, decoded, stills, strict=True):
            for image in shown:
                assert image.shape == truth.shape
                assert np.abs(image - truth).mean() < 12


def test_the_same_seed_gives_the_same_bytes_also_after_a_kill(dataset: Layout, tmp_path: Path) -> None:
    again = generate(GenerateOptions(output_dir=tmp_path, validation_clips=1, workers=1))
    # After a killed run: a missing video and half of another under its temporary name.
    again.video("200003").unlink()
    again.video("200004.webm.123").with_suffix(".part").write_bytes(b"half")
    again.annotation("validation").unlink()
    kept = again.video("200005").stat().st_mtime_ns
    generate(GenerateOptions(output_dir=tmp_path, validation_clips=1, workers=1))
    assert again.video("200005").stat().st_mtime_ns == kept
    for name in [f"videos/{200_000 + i}.webm" for i in range(12)] + [
        "annotations/something-something-v2-validation.json"
    ]:
        assert (tmp_path / name).read_bytes() == (dataset.root / name).read_bytes()


def test_a_different_seed_or_size_in_the_same_folder_is_rejected(dataset: Layout) -> None:
    for change in ({"seed": 1}, {"validation_clips": 2}):
        with pytest.raises(UsageError, match="Delete the folder"):
            options = {"output_dir": dataset.root, "validation_clips": 1, "workers": 1, **change}
            generate(GenerateOptions(**options))


def test_splits_and_seeds_share_no_clip() -> None:
    scenes = [
        scene_of("validation", 0, seed=0),
        scene_of("train", 0, seed=0),
        scene_of("validation", 0, seed=1),
    ]
    tracks = [scene.things[-1].track.tobytes() for scene in scenes]
    assert len(set(tracks)) == 3


@pytest.mark.slow
def test_several_processes_give_the_same_files(dataset: Layout, tmp_path: Path) -> None:
    main(["--output_dir", str(tmp_path), "--validation-clips", "1", "--workers", "2"])
    assert (tmp_path / "videos/200011.webm").read_bytes() == dataset.video("200011").read_bytes()


def test_wrong_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        GenerateOptions(output_dir=tmp_path, validation_clips=-1)
