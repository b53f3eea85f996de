from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cann_machine import set_up_cann

from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.engine_options import CannOptions, OpenVinoOptions, TorchOptions
from infer.predict import PredictOptions, main, predict
from networks.deployable import build_deployable
from preprocess.sources.video import VideoFile
from preprocess.tensors.samples import make_sample
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe, load_recipe


@pytest.fixture
def recipe(tiny_recipe: Path, tmp_path: Path) -> Recipe:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"class {number}" for number in range(7)))
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_recipe.read_text().replace("labels/tiny.txt", str(labels)))
    return load_recipe(str(path))


@pytest.mark.slow
def test_the_classes_are_those_that_torch_ranks_first(recipe: Recipe, video: Path, tmp_path: Path):
    deployable, _ = build_deployable(recipe, "seeded:0")
    sample = make_sample(VideoFile(video), recipe.views).tensor
    with torch.no_grad():
        scores = deployable(torch.from_numpy(sample[None]))[0].numpy()
    order = np.argsort(-scores)[:3]
    unexported = predict(
        PredictOptions(recipe=recipe, video=video, top=3, engine=TorchOptions(checkpoint="seeded:0"))
    )
    assert [one.class_id for one in unexported] == list(order)
    np.testing.assert_allclose([one.score for one in unexported], scores[order], atol=1e-6)
    for batch_size, dtype in ((1, "float32"), (3, "uint8")):
        model = to_onnx(
            ToOnnxOptions(
                recipe=recipe,
                checkpoint="seeded:0",
                output=tmp_path / f"{dtype}.onnx",
                batch_size=batch_size,
                input_dtype=dtype,
            )
        )
        found = predict(PredictOptions(recipe=recipe, model=model, video=video, top=3))
        assert [one.class_id for one in found] == order.tolist()
        assert [one.name for one in found] == [f"class {number}" for number in order]
        np.testing.assert_allclose([one.score for one in found], scores[order], atol=1e-6)


@pytest.mark.slow
def test_openvino_ranks_the_same_classes_and_bf16_tells_what_differs(
    recipe: Recipe, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")
    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx"))
    common = {"recipe": recipe, "model": model, "video": video, "top": 7}
    wanted = predict(PredictOptions(**common))
    found = predict(PredictOptions(**common, engine=OpenVinoOptions()))
    assert [one.class_id for one in found] == [one.class_id for one in wanted]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in wanted], atol=1e-5)
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16 instructions")
    capsys.readouterr()
    rough = predict(PredictOptions(**common, engine=OpenVinoOptions(precision="bf16")))
    top1 = "unchanged" if rough[0].class_id == wanted[0].class_id else "changed"
    scores = [{one.class_id: one.score for one in answer} for answer in (found, rough)]
    largest = max(abs(scores[0][number] - scores[1][number]) for number in range(7))
    told = capsys.readouterr().err
    assert f"top-1 {top1}," in told and f"largest difference {largest:.2e}." in told
    assert largest > 0


@pytest.mark.slow
def test_the_npu_without_ais_bench_ranks_the_same_classes(
    recipe: Recipe, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = set_up_cann(tmp_path, monkeypatch)
    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx"))
    common = {"recipe": recipe, "model": model, "video": video, "top": 7}
    assert predict(PredictOptions(**common, engine=CannOptions(device=2))) == predict(
        PredictOptions(**common)
    )
    assert "('device_id', '2')" in log.read_text()


def test_another_recipe_and_no_video_are_refused(recipe: Recipe, video: Path, tmp_path: Path):
    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match="Use the model's own recipe"):
        main(["--recipe", "tsm_demo", "--model", str(model), "--video", str(video)])
    with pytest.raises(BadDataError, match="cannot be decoded as a video"):
        predict(PredictOptions(recipe=recipe, model=model, video=tmp_path / "labels.txt"))


def test_a_folder_of_videos_gives_the_answers_of_each(
    recipe: Recipe, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx"))
    folder = tmp_path / "videos"
    (folder / "deeper.mp4").mkdir(parents=True)
    names = ["b, c.mp4", "A.MP4"]
    for name in names:
        (folder / name).write_bytes(video.read_bytes())
    (folder / "notes.txt").write_text("not a video")
    common = ["--recipe", str(tmp_path / "tiny.yaml"), "--model", str(model), "--top", "2"]
    alone = predict(PredictOptions(recipe=recipe, model=model, video=video, top=2))
    for suffix in (".csv", ".json"):
        main([*common, "--video", str(folder), "--output", str(tmp_path / f"answers{suffix}")])
    assert [line for line in capsys.readouterr().out.splitlines() if "mp4" in line.lower()] == sorted(
        names
    ) * 2
    document = json.loads((tmp_path / "answers.json").read_text())
    assert document == [
        {
            "video": name,
            "classes": [{"class_id": one.class_id, "name": one.name, "score": one.score} for one in alone],
        }
        for name in sorted(names)
    ]
    with (tmp_path / "answers.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [
        (row["video"], int(row["rank"]), int(row["class_id"]), row["name"], float(row["score"]))
        for row in rows
    ] == [
        (name, rank, one.class_id, one.name, one.score)
        for name in sorted(names)
        for rank, one in enumerate(alone, 1)
    ]

    (folder / "broken.avi").write_bytes(b"RIFF")
    with pytest.raises(BadDataError, match="1 of 3 videos .* cannot be read: broken.avi"):
        main([*common, "--video", str(folder), "--output", str(tmp_path / "two.json")])
    assert json.loads((tmp_path / "two.json").read_text()) == document
    with pytest.raises(UsageError, match="has no videos"):
        main([*common, "--video", str(tmp_path / "videos" / "deeper.mp4")])
    with pytest.raises(UsageError, match=r"must end in \.csv or \.json"):
        main([*common, "--video", str(folder), "--output", "answers.txt"])
