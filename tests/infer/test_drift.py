"""What other decoders and resizers change, against pixels and scores worked out with numpy, OpenCV and Pillow."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, save
from PIL import Image

from infer.drift import DriftOptions, drift, main
from preprocess.tensors.alternatives import ALTERNATIVES, alternative, alternatives_to
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe, load_recipe

RECIPE = """
name: colours
summary: three classes, the brightest colour wins
network: {{arch: tsm}}
checkpoint: {{framework: mmaction2, file: colours.pth}}
dataset: {{name: colours, num_classes: 3, labels: {labels}}}
views: {{num_segments: 2, short_side: 32, crop: center, crop_size: 32, mean: [0, 0, 0], std: [255, 255, 255]}}
head: {{softmax: true, average_clips: score}}
"""
SIZE = (96, 64)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    labels = tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    path = tmp_path / "colours.yaml"
    path.write_text(RECIPE.format(labels=labels))
    return load_recipe(str(path))


def write_planes(path: Path, frames: list[tuple[np.ndarray, int, int]]) -> Path:
    """A lossless video of frames of brightness [64, 96] and two colour planes of one value each."""
    width, height = SIZE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for brightness, blue, red in frames:
            colours = [np.full((height // 4, width), value, np.uint8) for value in (blue, red)]
            planes = np.concatenate([brightness, *colours])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    return path


def uniform(path: Path, brightness: int, blue: int, red: int) -> Path:
    plane = np.full((SIZE[1], SIZE[0]), brightness, np.uint8)
    return write_planes(path, [(plane, blue, red)] * 4)


def textured(path: Path) -> Path:
    generator = np.random.default_rng(0)
    planes = [generator.integers(16, 236, (SIZE[1], SIZE[0]), np.uint8) for _ in range(4)]
    return write_planes(path, [(plane, 128, 128) for plane in planes])


def rgb(brightness: int, blue: int, red: int, *, kr: float, kb: float) -> np.ndarray:
    """The colour of limited-range samples by the matrix whose red and blue have these weights (ITU-R)."""
    y, b, r = (brightness - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    red_part, blue_part = y + 2 * (1 - kr) * r, y + 2 * (1 - kb) * b
    green = (y - kr * red_part - kb * blue_part) / (1 - kr - kb)
    return np.clip(255 * np.array([red_part, green, blue_part]), 0, 255)


def by_colour(path: Path, *, frames: int = 2) -> Path:
    """A model whose scores are the means of the three colours after softmax."""
    size = [1, frames, 3, 32, 32]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["means"], axes=[1, 3, 4], keepdims=0),
        helper.make_node("Softmax", ["means"], ["y"], axis=1),
    ]
    values = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    ]
    graph = helper.make_graph(nodes, "colours", *values)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_opencv_decodes_alike_and_the_pipelines_own_resizer_changes_nothing(
    tmp_path: Path, recipe: Recipe
) -> None:
    video = textured(tmp_path / "a.mkv")
    for one in drift(
        DriftOptions(
            recipe=recipe,
            video=video,
            other=(
                "decoder=opencv",
                "resizer=opencv",
            ),
        )
    ):
        assert (one.frames, one.usual_frames) == (4, 4)
        assert (one.pixels.mean, one.pixels.max, one.pixels.changed) == (0, 0, 0)
        assert one.scores is None


def test_antialiasing_changes_what_pillow_says_it_changes(tmp_path: Path, recipe: Recipe) -> None:
    video = textured(tmp_path / "a.mkv")
    (one,) = drift(DriftOptions(recipe=recipe, video=video, other=("resizer=pillow",)))
    capture = cv2.VideoCapture(str(video))
    frames = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(4)]
    differences = []
    # Two segments of two frames: the second of each lies in the middle. The crop is the middle of 48 x 32.
    for frame in (frames[1], frames[3]):
        ours = cv2.resize(frame, (48, 32), interpolation=cv2.INTER_LINEAR)[:, 8:40]
        picture = Image.fromarray(frame).resize((48, 64), Image.Resampling.BILINEAR)
        theirs = np.asarray(picture.resize((48, 32), Image.Resampling.BILINEAR))[:, 8:40]
        differences.append(np.abs(ours.astype(int) - theirs))
    difference = np.stack(differences)
    assert one.pixels.max == difference.max() > 20
    assert one.pixels.mean == pytest.approx(difference.mean())
    assert one.pixels.changed == pytest.approx((difference > 0).mean())


def test_the_other_matrix_changes_colours_and_scores_by_its_weights(tmp_path: Path, recipe: Recipe) -> None:
    # Blue is a little above red by BT.601, below it by BT.709.
    colour = (120, 128 + 33, 128 + 40)
    video = uniform(tmp_path / "a.mkv", *colour)
    usual, other = rgb(*colour, kr=0.299, kb=0.114), rgb(*colour, kr=0.2126, kb=0.0722)
    model = by_colour(tmp_path / "m.onnx")
    (one,) = drift(DriftOptions(recipe=recipe, video=video, other=("decoder=bt709",), model=model))
    assert one.pixels.mean == pytest.approx(np.abs(usual - other).mean(), abs=1)
    assert one.scores is not None
    rows = [np.exp(row / 255) / np.exp(row / 255).sum() for row in (usual, other)]
    assert one.scores.max == pytest.approx(np.abs(rows[0] - rows[1]).max(), abs=2e-3)
    assert (one.scores.top1, one.scores.other_top1) == (2, 0)
    ranked = np.sort(rows[0])
    assert one.scores.margin == pytest.approx(ranked[-1] - ranked[-2], abs=2e-3)


def test_jpeg_leaves_a_plain_frame_nearly_alone_and_changes_noise(tmp_path: Path, recipe: Recipe) -> None:
    (plain,) = drift(
        DriftOptions(recipe=recipe, video=uniform(tmp_path / "a.mkv", 100, 128, 128), other=("decoder=jpeg",))
    )
    (noise,) = drift(DriftOptions(recipe=recipe, video=textured(tmp_path / "b.mkv"), other=("decoder=jpeg",)))
    assert plain.pixels.max <= 1
    assert noise.pixels.mean > 0.2


def test_the_command_prints_a_line_for_each_other_step(
    tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    video = uniform(tmp_path / "a.mkv", 120, 128 + 33, 128 + 40)
    model = by_colour(tmp_path / "m.onnx")
    command = ["--recipe", str(tmp_path / "colours.yaml"), "--video", str(video), "--model", str(model)]
    main(command)
    table, legend = capsys.readouterr().out.split("\n\n")
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == ["instead", *alternatives_to(recipe.views)]
    assert "decoder=bt601: as mmaction2 extracted" in legend
    by_name = {line.split()[0]: line for line in lines}
    assert "2 (blue), " in by_name["decoder=opencv"]
    assert by_name["decoder=opencv"].endswith("stays")
    assert by_name["decoder=bt709"].endswith("becomes 0 (red)")
    main([*command, "--json", "--other", "decoder=bt709"])
    (document,) = json.loads(capsys.readouterr().out)
    assert document["other"] == "decoder=bt709"
    assert (document["scores"]["top1"], document["scores"]["other_top1"]) == (2, 0)
    assert document["pixels"]["changed"] > 0.6


def test_a_decoder_that_cannot_read_the_video_is_left_out_unless_it_is_asked_for(
    recipe: Recipe, fixtures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = fixtures / "videos" / "av1.mp4"
    names = {one.other for one in drift(DriftOptions(recipe=recipe, video=video))}
    assert names == set(alternatives_to(recipe.views)) - {"decoder=opencv"}
    assert "decoder=opencv is left out: OpenCV" in caplog.text
    with pytest.raises(BadDataError, match="does not decode frame 0"):
        drift(DriftOptions(recipe=recipe, video=video, other=("decoder=opencv",)))


def test_bt601_gives_the_colours_that_opencv_4_gave(recipe: Recipe, fixtures: Path) -> None:
    """OpenCV 4.10 decodes the red, green and blue patches of this clip, which declares BT.709, to these values."""
    video = fixtures / "videos" / "bt709.mp4"
    (frame,) = alternative("decoder=bt601", video, recipe.views).read([0])
    expected = ((204, 20, 41), (52, 225, 65), (42, 51, 203))
    found = [frame[place] for place in ((10, 10), (10, 100), (30, 10))]
    assert np.abs(np.array(found, int) - expected).max() <= 2


def test_every_pipeline_has_other_steps_than_its_own(recipe: Recipe) -> None:
    assert set(alternatives_to(recipe.views)) == ALTERNATIVES.keys() - {"resizer=opencv"}
    for name in ("pptsm_k400_uniform", "stnet_k400"):
        assert set(alternatives_to(load_recipe(name).views)) == ALTERNATIVES.keys() - {"resizer=pillow"}


def test_what_cannot_be_compared_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    video = textured(tmp_path / "a.mkv")
    with pytest.raises(UsageError, match="Unknown alternative 'decoder=none'"):
        drift(DriftOptions(recipe=recipe, video=video, other=("decoder=none",)))
    with pytest.raises(UsageError, match="Use the model's own recipe"):
        drift(DriftOptions(recipe=recipe, video=video, model=by_colour(tmp_path / "m.onnx", frames=3)))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(BadDataError, match="cannot be decoded"):
        drift(DriftOptions(recipe=recipe, video=text))
