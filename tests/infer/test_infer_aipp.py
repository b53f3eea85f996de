"""Clips for AIPP: packed, refused where no NPU is, handed to a stub of ais_bench. No NPU takes part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import Bench
from run_infer import run_infer

from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.ascend.om_input import plan_om_batches
from infer.engines.engine_options import AscendOptions, EngineOptions, OnnxRuntimeOptions, OpenVinoOptions
from infer.engines.open import open_engine
from infer.evaluate import EvaluateOptions, evaluate
from infer.evaluation.record import RECORD_NAME, read_rows
from infer.one_video import sample_scores
from preprocess.datasets.annotations import Annotation
from preprocess.pack import PackOptions, pack
from preprocess.pack import main as pack_command
from preprocess.tensors.samples import make_sample, open_source
from vidom.errors import UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe, load_recipe

# Two segments, two crops a frame less than the recipe: 6 frames of 16 x 16.
SMALL = [
    f"views.{entry}" for entry in ("num_segments=2", "twice_sample=false", "short_side=16", "crop_size=16")
]
FRAMES, SIDE, CLASSES = 6, 16, 7
NAMES = ("i3d_340x256", "land_427x240", "odd_341x257")


@pytest.fixture
def recipe(tiny_recipe: Path, tmp_path: Path) -> Recipe:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"class {index}" for index in range(CLASSES)))
    return load_recipe(str(tiny_recipe), [*SMALL, f"dataset.labels={labels}"])


@pytest.fixture
def listed(fixtures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    frames = {name: len(list((fixtures / "synth" / name).iterdir())) for name in NAMES}
    path.write_text(
        "".join(f"{name} {count} {label}\n" for label, (name, count) in enumerate(frames.items()))
    )
    return path


def packed(recipe: Recipe, listed: Path, fixtures: Path, folder: Path, **options: object) -> ClipStore:
    data = {"data_root": fixtures / "synth", "ann_file": listed, "output_dir": folder}
    return pack(PackOptions(recipe=recipe, workers=1, **data, **options))  # type: ignore[arg-type]


def pixels(recipe: Recipe, fixtures: Path) -> list[np.ndarray]:
    """The uint8 samples that `make_sample` gives, channels moved behind by numpy."""
    samples = []
    for name in NAMES:
        count = len(list((fixtures / "synth" / name).iterdir()))
        annotation = Annotation(id=name, path=name, total_frames=count, label=0)
        source = open_source(annotation, data_root=fixtures / "synth")
        samples.append(make_sample(source, recipe.views, dtype="uint8").tensor.transpose(0, 2, 3, 1))
    return samples


def test_the_files_hold_the_pixels_with_channels_last(
    recipe: Recipe, listed: Path, fixtures: Path, tmp_path: Path
) -> None:
    store = packed(recipe, listed, fixtures, tmp_path / "s", dtype="aipp", batch_size=2)
    header = store.header
    assert (header.dtype, header.layout, header.normalised) == ("uint8", "NHWC", False)
    assert header.shape == (FRAMES, SIDE, SIDE, 3)
    wanted = pixels(recipe, fixtures)
    found = [row for clip_file in store.files for row in store.read(clip_file)]
    assert len(found) == len(wanted) == 3
    for row, sample in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(row, sample)
    assert (wanted[0] != wanted[1]).any()
    content = (tmp_path / "s" / "clips" / "000000.bin").read_bytes()
    assert content == b"".join(sample.tobytes() for sample in wanted[:2])


def test_single_views_are_written_with_channels_last_too(
    recipe: Recipe, listed: Path, fixtures: Path, tmp_path: Path
) -> None:
    store = packed(recipe, listed, fixtures, tmp_path / "s", dtype="aipp", per_view=True)
    assert (store.header.shape, store.header.layout) == ((2, SIDE, SIDE, 3), "NHWC")
    views = [store.read(clip_file)[0] for clip_file in store.files[:3]]
    np.testing.assert_array_equal(np.concatenate(views), pixels(recipe, fixtures)[0])


def test_samples_that_are_no_pictures_are_not_packed_for_aipp(
    listed: Path, fixtures: Path, tmp_path: Path
) -> None:
    words = ["--data_root", str(fixtures / "synth"), "--ann_file", str(listed), "--dtype", "aipp"]
    for name, reason in (("i3d_k400", "layout is NCTHW"), ("stnet_k400", "layout is stacked")):
        with pytest.raises(UsageError, match=reason):
            pack_command(["--recipe", name, *words, "--output_dir", str(tmp_path / name)])
        assert not (tmp_path / name).exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [OnnxRuntimeOptions(), OpenVinoOptions()])
def test_engines_of_this_process_take_float32_clips_and_refuse_those_for_aipp(
    engine: EngineOptions, recipe: Recipe, listed: Path, fixtures: Path, tmp_path: Path
) -> None:
    if engine == OpenVinoOptions():
        pytest.importorskip("openvino", reason="the package openvino is not installed")
    seeded = {"recipe": recipe, "checkpoint": "seeded:0", "batch_size": 2}
    models = {
        dtype: to_onnx(ToOnnxOptions(**seeded, output=tmp_path / f"{dtype}.onnx", input_dtype=dtype))  # type: ignore[arg-type]
        for dtype in ("aipp", "float32")
    }
    (spec,) = open_engine(models["aipp"], engine).inputs  # type: ignore[union-attr]
    assert (spec.shape, spec.rows, spec.sample_shape) == (
        (2 * FRAMES, 3, SIDE, SIDE),
        2,
        (FRAMES, 3, SIDE, SIDE),
    )
    numbers = packed(recipe, listed, fixtures, tmp_path / "numbers")
    found = {}
    for dtype, model in models.items():
        result = run_infer(
            model=model, engine=engine, input=str(numbers.folder / "clips"),
            output=tmp_path / "out", output_dirname=dtype, outfmt="NPY", say=lambda _: None,
        )  # fmt: skip
        assert (result.samples, result.padded_rows, result.batch_size) == (3, 1, 2)
        entries, _ = read_summary(tmp_path / "out" / f"{dtype}_summary.json")
        found[dtype] = np.concatenate([read_output(entry.outfiles[0], classes=CLASSES) for entry in entries])
    np.testing.assert_allclose(found["aipp"], found["float32"], rtol=0, atol=1e-6)
    bytes_store = packed(recipe, listed, fixtures, tmp_path / "bytes", dtype="aipp")
    for model in models.values():
        with pytest.raises(UsageError, match=r"for AIPP, which only NPUs have.*pack with --dtype float32"):
            run_infer(model=model, engine=engine, input=str(bytes_store.folder / "clips"), say=lambda _: None)


class Npu:
    """A stub of an .om with AIPP, of two samples, and the clips for it."""

    def __init__(self, bench: Bench, store: ClipStore) -> None:
        generator = np.random.default_rng(3)
        self.weights = generator.normal(size=(FRAMES * SIDE * SIDE * 3, 3)).astype(np.float32)
        self.bench, self.store = bench, store
        model = {"rows": 2, "frames": FRAMES, "weights": self.weights.tolist()}
        (bench.folder / "m.om").write_text(json.dumps(model))

    def record(self, **changes: object) -> None:
        """`build.json` as to_om leaves it."""
        shape = f"--input_shape=clips:{2 * FRAMES},3,{SIDE},{SIDE}"
        made_from = {"command": ["atc", shape], "frames_per_sample": FRAMES, **changes}
        document = {"models": {"m.om": {"made_from": made_from}}}
        (self.bench.folder / "build.json").write_text(json.dumps(document))

    def run(self, **options: object) -> list[str]:
        said: list[str] = []
        chosen = {
            "input": str(self.store.folder / "clips"),
            "output": "out",
            "output_dirname": "run",
            **options,
        }
        run_infer(model=Path("m.om"), engine=AscendOptions(), outfmt="NPY", say=said.append, **chosen)
        return said


@pytest.fixture
def npu(bench: Bench, recipe: Recipe, listed: Path, fixtures: Path) -> Npu:
    return Npu(bench, packed(recipe, listed, fixtures, bench.folder / "store", dtype="aipp"))


def test_ais_bench_is_told_how_many_samples_the_pictures_are(
    npu: Npu, recipe: Recipe, fixtures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    npu.record()
    said = npu.run()
    facts = npu.bench.facts()
    assert (facts["samples"], facts["padded_rows"], facts["batch_size"]) == (3, 1, 2)
    assert facts["input_known_from"] == "build.json"
    assert "--batchsize 2" in facts["commands"][0]
    assert any("batchsize.mean(2)" in line for line in said)
    assert "never run on an NPU" in capfd.readouterr().err
    entries, _ = read_summary(npu.bench.folder / "out" / "run_summary.json")
    rows = np.concatenate([read_output(entry.outfiles[0], classes=3) for entry in entries])
    wanted = (
        np.stack([sample.reshape(-1) for sample in pixels(recipe, fixtures)]).astype(np.float64) @ npu.weights
    )
    np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-2)


def test_the_pure_loop_counts_samples_as_well(npu: Npu) -> None:
    npu.record()
    said = npu.run(input=None, output=None, output_dirname=None, loop=3)
    assert any("batchsize.mean(2)" in line for line in said)


def test_without_a_record_the_batch_must_be_given(npu: Npu) -> None:
    with pytest.raises(UsageError, match=r"6 frames per sample.*Give --batchsize N"):
        npu.run()
    npu.run(batchsize=2)
    facts = npu.bench.facts()
    assert (facts["batch_size"], facts["padded_rows"]) == (2, 1)
    assert facts["input_known_from"] == "the clip store and --batchsize"


def test_planes_of_as_many_bytes_are_refused_where_channels_must_be_last(
    npu: Npu, recipe: Recipe, listed: Path, fixtures: Path
) -> None:
    npu.record()
    planes = packed(recipe, listed, fixtures, npu.bench.folder / "planes", dtype="uint8")
    assert planes.header.file_bytes == npu.store.header.file_bytes
    with pytest.raises(UsageError, match=r"channels last: pack with --dtype aipp"):
        npu.run(input=str(planes.folder / "clips"))


@pytest.mark.parametrize("frames", [5, 0, "6", -1])
def test_an_impossible_record_is_refused(npu: Npu, frames: object) -> None:
    npu.record(frames_per_sample=frames)
    with pytest.raises(Exception, match="Build the .om again"):
        plan_om_batches(str(npu.store.folder / "clips"), Path("m.om"), batch=None, dym_batch=None)


@pytest.mark.slow
def test_prediction_and_evaluation_on_the_cpu_take_a_model_for_aipp_like_any_other(
    recipe: Recipe, listed: Path, fixtures: Path, tmp_path: Path
) -> None:
    scores, records = {}, {}
    source = open_source(Annotation(NAMES[0], NAMES[0], 30, 0), data_root=fixtures / "synth")
    for dtype in ("aipp", "float32"):
        model = to_onnx(ToOnnxOptions(
            recipe=recipe, checkpoint="seeded:0", output=tmp_path / f"{dtype}.onnx", batch_size=2,
            input_dtype=dtype,
        ))  # fmt: skip
        scores[dtype] = sample_scores(open_engine(model), source, recipe)
        evaluate(
            EvaluateOptions(
                recipe=recipe, data_root=fixtures / "synth", ann_file=listed, model=model, workers=1,
                output_dir=tmp_path / dtype, engine=OnnxRuntimeOptions(),
            )
        )  # fmt: skip
        records[dtype] = np.stack([row.scores for row in read_rows(tmp_path / dtype / RECORD_NAME)])
    np.testing.assert_allclose(scores["aipp"], scores["float32"], rtol=0, atol=1e-6)
    assert len(records["aipp"]) == 3
    np.testing.assert_allclose(records["aipp"], records["float32"], rtol=0, atol=1e-6)


def test_a_window_of_clips_is_packed_for_aipp_where_the_record_says_so(
    npu: Npu, recipe: Recipe, listed: Path, fixtures: Path
) -> None:
    npu.record()
    three = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"num_classes": 3})})
    labels = npu.bench.folder / "three.txt"
    labels.write_text("a\nb\nc\n")
    three = three.model_copy(update={"dataset": three.dataset.model_copy(update={"labels": str(labels)})})
    evaluate(
        EvaluateOptions(
            recipe=three, data_root=fixtures / "synth", ann_file=listed, model=npu.bench.folder / "m.om", workers=1,
            output_dir=npu.bench.folder / "run", engine=AscendOptions(),
        )
    )  # fmt: skip
    rows = {row.index: row.scores for row in read_rows(npu.bench.folder / "run" / RECORD_NAME)}
    wanted = np.stack([sample.reshape(-1) for sample in pixels(recipe, fixtures)]).astype(np.float64)
    np.testing.assert_allclose(
        np.stack([rows[index] for index in range(3)]), wanted @ npu.weights, rtol=1e-4, atol=1e-2
    )
