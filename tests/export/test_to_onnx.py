from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.build import main as build_main
from export.build_record import read_record
from export.to_onnx import ToOnnxOptions, main, to_onnx
from export.verify import main as verify_main
from networks.deployable import build_deployable
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe, load_recipe

CHECKPOINT = "seeded:0"


@pytest.fixture
def recipe(tiny_recipe: Path) -> Recipe:
    return load_recipe(str(tiny_recipe))


def run(path: Path, samples: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: samples})[0]


def clip_logits(recipe: Recipe, samples: np.ndarray) -> np.ndarray:
    """The network's own logits, (samples, clips, classes), without any head of ours."""
    deployable, _ = build_deployable(recipe, CHECKPOINT)
    with torch.no_grad():
        rows = deployable.network(torch.from_numpy(samples)).numpy()
    return rows.reshape(len(samples), recipe.views.clips, -1)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


HEADS = {
    "score": (["head.average_clips=score"], lambda logits: softmax(logits.mean(axis=1))),
    "prob": (["head.average_clips=prob"], lambda logits: softmax(logits).mean(axis=1)),
    "logits": (["head.softmax=false"], lambda logits: logits.mean(axis=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("batch_size", "opset"), [(1, 11), (3, 13)])
def test_the_graph_computes_the_head_that_numpy_computes(
    head: str, batch_size: int, opset: int, tiny_recipe: Path, tmp_path: Path
):
    overrides, average = HEADS[head]
    recipe = load_recipe(str(tiny_recipe), overrides)
    path = to_onnx(
        ToOnnxOptions(
            recipe=recipe,
            checkpoint=CHECKPOINT,
            output=tmp_path / "m.onnx",
            batch_size=batch_size,
            opset=opset,
        )
    )
    samples = np.random.default_rng(7).standard_normal(recipe.input_shape(batch_size)).astype(np.float32)
    np.testing.assert_allclose(
        run(path, samples), average(clip_logits(recipe, samples)), atol=2e-6, rtol=1e-5
    )
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [batch_size, 7]


@pytest.mark.slow
def test_averaging_probabilities_is_not_averaging_logits(tiny_recipe: Path, tmp_path: Path):
    rows = []
    samples = None
    for head in ("score", "prob"):
        recipe = load_recipe(str(tiny_recipe), HEADS[head][0])
        path = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=tmp_path / f"{head}.onnx"))
        if samples is None:
            samples = np.random.default_rng(3).standard_normal(recipe.input_shape(1)).astype(np.float32)
        rows.append(run(path, samples))
    assert np.abs(rows[0] - rows[1]).max() > 1e-4


@pytest.mark.slow
def test_a_uint8_input_is_normalised_in_the_graph_bit_for_bit(recipe: Recipe, tmp_path: Path):
    pixels = np.random.default_rng(1).integers(0, 256, recipe.input_shape(2), dtype=np.uint8)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (recipe.views.mean, recipe.views.std))
    plain = to_onnx(
        ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=tmp_path / "f.onnx", batch_size=2)
    )
    folded = to_onnx(
        ToOnnxOptions(
            recipe=recipe,
            checkpoint=CHECKPOINT,
            output=tmp_path / "u.onnx",
            batch_size=2,
            input_dtype="uint8",
        )
    )
    np.testing.assert_array_equal(run(folded, pixels), run(plain, (pixels.astype(np.float32) - mean) / std))


def test_a_symbolic_batch_takes_every_batch(recipe: Recipe, tmp_path: Path):
    path = to_onnx(
        ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=tmp_path / "d.onnx", dynamic_batch=True)
    )
    samples = np.random.default_rng(2).standard_normal(recipe.input_shape(5)).astype(np.float32)
    rows = run(path, samples)
    assert rows.shape == (5, 7)
    np.testing.assert_allclose(run(path, samples[3:]), rows[3:], atol=1e-6)


@pytest.mark.slow
def test_a_model_is_built_again_only_when_something_changed(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "m.onnx"

    def build(**options: object) -> bool:
        to_onnx(ToOnnxOptions(recipe=recipe, output=path, **{"checkpoint": CHECKPOINT, **options}))
        return "up to date" not in capsys.readouterr().err

    assert build()
    first = path.read_bytes()
    assert not build()
    assert build(checkpoint="seeded:1")
    assert build()
    assert path.read_bytes() == first
    path.write_bytes(first[:1000])
    assert build()
    assert read_record(path)["made_from"]["checkpoint"]["seeded"] is True


def test_without_a_checkpoint_the_published_one_and_random_weights_are_suggested():
    with pytest.raises(UsageError, match=r"https://download.openmmlab.com/.*032aa4da.pth.*seeded:0"):
        main(["--recipe", "tsm_sthv2", "-o", "never.onnx"])
    with pytest.raises(UsageError, match="no_such.pth does not exist"):
        main(["--recipe", "tsm_sthv2", "--checkpoint", "no_such.pth", "-o", "never.onnx"])


def test_a_checkpoint_of_a_different_class_count_is_rejected(
    recipe: Recipe, tiny_recipe: Path, tmp_path: Path
):
    deployable, _ = build_deployable(recipe, CHECKPOINT)
    torch.save({"meta": {}, "state_dict": deployable.network.state_dict()}, tmp_path / "seven.pth")
    words = [
        "--recipe",
        str(tiny_recipe),
        "--checkpoint",
        str(tmp_path / "seven.pth"),
        "-o",
        str(tmp_path / "m.onnx"),
    ]
    main(words)
    with pytest.raises(BadDataError, match=r"7.*9|9.*7"):
        main([*words, "--set", "dataset.num_classes=9"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--shape", "1", "8", "3", "224", "224"], "4 segments x 2 temporal"),
        (["--shape", "2x24x3x32x32", "--batch_size", "4"], "whose batch is 2"),
        (["--batch_size", "0"], "at least 1"),
        (["--no-softmax", "--average_clips", "prob"], "averages probabilities"),
    ],
)
def test_contradictions_are_rejected(words: list[str], text: str, tiny_recipe: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=text):
        main(
            ["--recipe", str(tiny_recipe), "--checkpoint", CHECKPOINT, "-o", str(tmp_path / "m.onnx"), *words]
        )


def test_the_shape_gives_the_batch_size(tiny_recipe: Path, tmp_path: Path):
    words = [
        "--recipe",
        str(tiny_recipe),
        "--checkpoint",
        CHECKPOINT,
        "--softmax",
        "-o",
        str(tmp_path / "m.onnx"),
    ]
    main([*words, "--shape", "2", "24", "3", "32", "32"])
    model = onnx.load(tmp_path / "m.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_every_command_takes_a_checkpoint_that_contradicts_the_recipe_if_asked_to(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / load_recipe("tsm_demo").checkpoint.file
    state = torch.load(committed, weights_only=True)["state_dict"]
    config = "model = dict(backbone=dict(type='ResNetTSM', num_segments=16))"
    torch.save({"meta": {"cfg": config}, "state_dict": state}, tmp_path / "sixteen.pth")
    own = ["--recipe", "tsm_demo", "--checkpoint", str(tmp_path / "sixteen.pth")]
    output = str(tmp_path / "o.onnx")
    files = ["--exported", output, "--optimized", str(tmp_path / "m.onnx"), "--om", str(tmp_path / "m.om")]
    for command, words in ((main, ["-o", output]), (verify_main, ["--model", output]), (build_main, files)):
        with pytest.raises(BadDataError, match="num_segments 16, the recipe has 8.*--ignore_meta"):
            command([*own, *words])
        command([*own, *words, "--ignore_meta"])
    assert (tmp_path / "m.onnx").is_file()
