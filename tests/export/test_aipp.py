"""Models for AIPP: their inputs, the configuration of AIPP, and the options of ATC. No NPU is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from auto_optimizer_venv import auto_optimizer_python
from stub_atc import StubAtc

from export.lint_onnx import LintOptions, lint_onnx
from export.modify_onnx import main as modify_onnx
from export.surgery.model_file import load_model, model_bytes
from export.surgery.pass_manager import run_passes
from export.surgery.values import batch_of
from export.to_om import main as to_om
from export.to_onnx import main as to_onnx
from export.verify import main as verify
from vidom.errors import BadDataError, UsageError
from vidom.formats.aipp import aipp_of, read_aipp
from vidom.formats.recipe import load_recipe

FRAMES, CLASSES = 24, 7
PPTSM = """
name: tiny_pptsm
summary: a PP-TSM small enough to build many times
network: {arch: pptsm, depth: 50, base_channels: 8, backbone_segments: 4}
checkpoint: {framework: paddle, file: tiny.pdparams}
dataset: {name: tiny, num_classes: 7, labels: labels/tiny.txt}
views:
  pipeline: paddlevideo
  num_segments: 4
  short_side: 40
  crop: center
  crop_size: 32
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
head: {softmax: true, average_clips: score}
"""
# Worked out by hand from (pixel - mean) / std; 255 * 0.485 is 123.675, 1 / 58.395 is 0.01712475383166...
NUMBERS = """\
    aipp_mode: static
    related_input_rank: 0
    input_format: RGB888_U8
    src_image_size_w: 32
    src_image_size_h: 24
    csc_switch: false
    rbuv_swap_switch: false
    mean_chn_0: 0
    mean_chn_1: 0
    mean_chn_2: 0
    min_chn_0: 123.675
    min_chn_1: 116.28
    min_chn_2: 103.53
    var_reci_chn_0: 0.0171247538316637
    var_reci_chn_1: 0.0175070028011204
    var_reci_chn_2: 0.0174291938997821
"""


@pytest.fixture(scope="module")
def exported(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights as a model for float32 samples and as one for AIPP, of two samples."""
    folder = tmp_path_factory.mktemp("aipp")
    return {dtype: export(tiny_recipe, folder, dtype) for dtype in ("float32", "aipp")}


def export(recipe: Path, folder: Path, dtype: str, *more: str) -> Path:
    path = folder / f"{dtype}.onnx"
    words = ["--recipe", str(recipe), "--checkpoint", "seeded:0", "--batch_size", "2", "--output", str(path)]
    to_onnx([*words, "--input_dtype", dtype, *more])
    return path


def run(model: Path, array: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def settings_of(config: str) -> dict[str, str]:
    lines = [line.strip() for line in config.splitlines() if not line.startswith("#")]
    return dict(line.split(": ") for line in lines if ": " in line)


def test_the_configuration_is_that_worked_out_by_hand() -> None:
    config = aipp_of(load_recipe("tsm_sthv2").views).config(name="m.om", width=32, height=24)
    comments = [line for line in config.splitlines() if line.startswith("#")]
    assert config.removeprefix("\n".join(comments) + "\n") == f"aipp_op {{\n{NUMBERS}}}\n"
    assert "not run on an NPU" in comments[0] and "48 images" in comments[1]


def test_a_pixel_scale_of_255_is_in_the_numbers() -> None:
    config = settings_of(
        aipp_of(load_recipe("pptsm_k400_uniform").views).config(name="m.om", width=224, height=224)
    )
    found = [float(config[f"{name}_chn_{channel}"]) for name in ("min", "var_reci") for channel in range(3)]
    wanted = [123.675, 116.28, 103.53, 1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)]
    assert found == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("name", ["tsm_sthv2", "pptsm_k400_uniform"])
def test_the_documented_arithmetic_is_the_normalisation_within_half_precision(name: str) -> None:
    plan = load_recipe(name).views
    config = settings_of(aipp_of(plan).config(name="m.om", width=256, height=256))
    pixels = np.arange(256, dtype=np.float32)
    for channel in range(3):
        minimum = np.float16(config[f"min_chn_{channel}"])
        factor = np.float16(config[f"var_reci_chn_{channel}"])
        integer = np.float32(config[f"mean_chn_{channel}"])
        made = ((pixels - integer - np.float32(minimum)) * np.float32(factor)).astype(np.float16)
        mean, std = plan.mean[channel], plan.std[channel]
        truth = (pixels.astype(np.float64) / plan.pixel_scale - mean) / std
        # Half precision has 11 bits: steps of 1/16 for a mean of 64 to 128, 1/2048 of any number otherwise.
        allowed = (1 / 32) / (plan.pixel_scale * std) + 2 * np.abs(truth) / 2048
        assert (np.abs(made - truth) <= allowed).all()
        assert np.abs(made - truth).max() > 1e-5  # it is not the same arithmetic


def test_the_model_takes_consecutive_frames_and_returns_the_same_rows(exported: dict[str, Path]) -> None:
    entry, output = (
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for graph in [onnx.load(exported["aipp"]).graph]
        for value in (graph.input[0], graph.output[0])
    )
    assert (entry, output) == ([2 * FRAMES, 3, 32, 32], [2, CLASSES])
    samples = np.random.default_rng(0).standard_normal((2, FRAMES, 3, 32, 32), dtype=np.float32)
    frames = samples.reshape(2 * FRAMES, 3, 32, 32)
    np.testing.assert_allclose(
        run(exported["aipp"], frames), run(exported["float32"], samples), rtol=0, atol=1e-6
    )
    # AIPP's frames go directly into the first convolution.
    first = next(node for node in onnx.load(exported["aipp"]).graph.node if node.op_type != "Constant")
    assert (first.op_type, first.input[0]) == ("Conv", "clips")


@pytest.mark.slow
def test_surgery_counts_samples_and_keeps_the_metadata(
    exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {dtype: tmp_path / f"{dtype}.onnx" for dtype in exported}
    for dtype, path in paths.items():
        assert modify_onnx(["-m1", str(exported[dtype]), "-m2", str(path), "-bs", "3"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "PASSED"
    model = load_model(paths["aipp"])
    assert batch_of(model) == 3
    assert tuple(model.graph.inputs[0].shape or ()) == (3 * FRAMES, 3, 32, 32)
    plan = load_recipe(
        "tsm_sthv2", ["views.num_segments=4", "views.crop_size=32", "views.short_side=32"]
    ).views
    assert read_aipp(model.metadata_props, origin=paths["aipp"]) == aipp_of(plan)
    samples = np.random.default_rng(0).standard_normal((3, FRAMES, 3, 32, 32), dtype=np.float32)
    rows = [run(paths["aipp"], samples.reshape(-1, 3, 32, 32)), run(paths["float32"], samples)]
    np.testing.assert_allclose(*rows, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_auto_optimizer_keeps_the_metadata(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto_optimizer_python()
    monkeypatch.delenv("AUTO_OPTIMIZER_PYTHON", raising=False)
    path = tmp_path / "m.onnx"
    words = ["-m1", str(exported["aipp"]), "-m2", str(path), "--passes", "fold-constants"]
    assert modify_onnx([*words, "--with", "auto-optimizer=KnowledgeMergeConsecutiveSlice"]) == 0
    before, after = (load_model(model).metadata_props for model in (exported["aipp"], path))
    assert dict(after) == dict(before) != {}


def test_it_is_verified_against_the_network_of_float32_samples(
    tiny_recipe: Path, exported: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", str(tiny_recipe), "--input_dtype", "aipp", "--model", str(exported["aipp"])]
    verify([*words, "--checkpoint", "seeded:0"])
    assert capsys.readouterr().out.splitlines()[-1] == "PASSED"
    with pytest.raises(BadDataError, match=r"\(24, 3, 32, 32\).*\(8, 3, 32, 32\)"):
        verify([*words, "--checkpoint", "seeded:0", "--set", "views.crop=center"])


@pytest.mark.slow
@pytest.mark.parametrize("per_view", [False, True])
def test_a_network_of_paddle_and_single_views_can_be_for_aipp(
    per_view: bool, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe
    if not per_view:
        recipe = tmp_path / "pptsm.yaml"
        recipe.write_text(PPTSM)
    more = ["--per_view"] if per_view else []
    path = export(recipe, tmp_path, "aipp", *more)
    assert "never run on an NPU" in capsys.readouterr().err
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2 * 4
    words = ["--recipe", str(recipe), "--input_dtype", "aipp", "--model", str(path), *more]
    verify([*words, "--checkpoint", "seeded:0"])
    assert capsys.readouterr().out.splitlines()[-1] == "PASSED"


@pytest.mark.parametrize(
    ("recipe", "more", "reason"),
    [
        ("i3d_k400", [], "layout is NCTHW"),
        ("stnet_k400", [], "layout is stacked"),
        ("tsm_k400", ["--dynamic_batch"], "counts the frames of all"),
        ("tsm_sthv2", ["--set", "views.frame_size=455x256"], "frame_size"),
        ("tsm_k400", ["--set", "views.mean=[300, 0, 0]"], "means from 0 to 255"),
        (
            "tsm_k400",
            ["--set", "views.crop_size=5000", "--set", "views.short_side=5000"],
            "2 to 4096 pixels a side",
        ),
    ],
)
def test_unsupported_options_are_rejected_before_anything_is_built(
    recipe: str, more: list[str], reason: str, tmp_path: Path
) -> None:
    more = [*more, "--input_dtype", "aipp"]
    with pytest.raises(UsageError, match=reason):
        to_onnx(["--recipe", recipe, "--checkpoint", "seeded:0", "--output", str(tmp_path / "m.onnx"), *more])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "[" * 100_000, "{}",
        '{"frames_per_sample": 0, "mean": [1, 1, 1], "std": [1, 1, 1]}',
        '{"frames_per_sample": 5, "mean": [1, 1], "std": [1, 1, 1]}',
        '{"frames_per_sample": 5, "mean": [1, 1, NaN], "std": [1, 1, 1]}',
        '{"frames_per_sample": 5, "mean": [1, 1, 1], "std": [1, 0, 1]}',
        '{"frames_per_sample": 5, "mean": [1, 1, 1%s], "std": [1, 1, 1]}' % ("0" * 400),
        '{"frames_per_sample": 1e9, "mean": [1, 1, 1], "std": [1, 1, 1]}',
    ],
)  # fmt: skip
def test_damaged_metadata_are_rejected(text: str) -> None:
    with pytest.raises(BadDataError, match="Export the model again"):
        read_aipp({"vidom.formats.aipp": text}, origin="m.onnx")


def test_an_input_of_incomplete_samples_is_rejected(exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(exported["aipp"])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = FRAMES + 1
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(BadDataError, match="not a multiple of the 24"):
        batch_of(load_model(tmp_path / "m.onnx"))


@pytest.fixture
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubAtc:
    stub = StubAtc(tmp_path / "stub")
    stub.on_path(monkeypatch)
    return stub


def compile_words(model: Path, om: Path, *more: str, batch: int = 2) -> list[str]:
    words = ["--model", str(model), "--output", str(om), "--batch_size", str(batch)]
    return [*words, "--soc_version", "310P3", *more]


def test_atc_gets_the_configuration_and_the_record_the_frames_per_sample(
    exported: dict[str, Path], atc: StubAtc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = ("fold-constants", "common-subexpression-elimination", "merge-slices", "dead-node-elimination")
    folded = run_passes(exported["aipp"], passes=passes).model
    (tmp_path / "m.onnx").write_bytes(model_bytes(folded))
    to_om(compile_words(tmp_path / "m.onnx", tmp_path / "bs2" / "m.om"))
    said = capsys.readouterr().err
    assert "lint: 0 errors, 0 warnings" in said
    assert "experimental: it was never run on an NPU" in said
    assert "--input_format=NCHW" in atc.words
    assert f"--input_shape=clips:{2 * FRAMES},3,32,32" in atc.words
    assert "--insert_op_conf=../m_aipp.cfg" in atc.words
    config = tmp_path / "bs2" / "m_aipp.cfg"
    assert settings_of(config.read_text())["src_image_size_w"] == "32"
    made_from = json.loads((tmp_path / "bs2" / "build.json").read_text())["models"]["m.om"]["made_from"]
    assert (made_from["frames_per_sample"], made_from["input_dtype"]) == (FRAMES, "uint8")
    assert list(made_from["files_sha256"]) == ["insert_op_conf"]
    script = (tmp_path / "bs2" / "commands.sh").read_text()
    assert script.count("--batchsize 2") == 2
    assert "--insert_op_conf=m_aipp.cfg" in script and "--dtype aipp" in script


def test_a_configuration_given_by_the_user_has_priority(
    exported: dict[str, Path], atc: StubAtc, tmp_path: Path
) -> None:
    own = tmp_path / "own.cfg"
    own.write_text("aipp_op { aipp_mode: static input_format: RGB888_U8 }\n")
    to_om(compile_words(exported["aipp"], tmp_path / "bs2" / "m.om", "--insert_op_conf", str(own)))
    assert "--insert_op_conf=../../own.cfg" in atc.words
    assert not (tmp_path / "bs2" / "m_aipp.cfg").exists()


def test_the_checked_batch_size_counts_samples(
    exported: dict[str, Path], atc: StubAtc, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--batch_size 48 contradicts.*48,3,32,32, 24 images per sample"):
        to_om(compile_words(exported["aipp"], tmp_path / "m.om", batch=48))
    assert not atc.called


def test_models_without_aipp_are_compiled_and_linted_without_it(
    exported: dict[str, Path], atc: StubAtc, tmp_path: Path
) -> None:
    model = exported["float32"]
    assert lint_onnx(LintOptions(model=model, batch_size=2)) == lint_onnx(LintOptions(model=model))
    to_om(compile_words(exported["float32"], tmp_path / "bs2" / "m.om"))
    assert not [word for word in atc.words if "insert_op_conf" in word]
    assert "--batchsize" not in (tmp_path / "bs2" / "commands.sh").read_text()
