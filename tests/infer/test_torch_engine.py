"""The torch engine against what ONNX Runtime makes of the exported network, and its own promises."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_stores import store
from evaluation_cases import run_evaluation, write_list, write_recipe
from run_infer import run_infer

import infer.engines.torch as torch_engine
from export.to_onnx import ToOnnxOptions, to_onnx
from infer.engines.choice import choose_engine
from infer.engines.engine_options import TorchOptions
from infer.engines.open import open_engine
from infer.engines.torch import TorchEngine
from infer.evaluation.conclusion import Evaluation
from infer.evaluation.record import read_header, read_rows
from networks.loading import load_network
from vidom.errors import ExternalToolError, UnavailableError, UsageError
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe, load_recipe
from vidom.parity import compare
from vidom.system.onnx_runtime import onnxruntime

SMALL = ("network.base_channels=8", "dataset.num_classes=5", "views.crop_size=32", "views.short_side=32")
TINY = {
    "tsm_sthv2": ("network.depth=10", "views.num_segments=4"),
    "i3d_k400": ("network.depth=26", "views.crop=center", "views.num_segments=2", "views.clip_len=8"),
    "pptsm_k400_uniform": ("views.num_segments=3", "network.backbone_segments=3"),
    "stnet_k400": ("network.pool_size=1", "views.num_segments=3", "views.clip_len=2"),
}
ONE_THREAD = {"checkpoint": "seeded:0", "threads": 1}


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """The engine sets them for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normalised(pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """(pixel / scale - mean) / std, along the third axis, on which every layout has its channels."""
    views = recipe.views
    channels = pixels.shape[2]
    mean, std = (
        np.float32(np.tile(numbers, channels // 3)).reshape(-1, *[1] * (pixels.ndim - 3))
        for numbers in (views.mean, views.std)
    )
    return (pixels.astype(np.float32) / np.float32(views.pixel_scale) - mean) / std


@pytest.mark.parametrize("name", TINY)
def test_rows_are_those_of_the_exported_network(name: str, tmp_path: Path):
    recipe = load_recipe(name, [*SMALL, *TINY[name]])
    pixels = np.random.default_rng(3).integers(0, 256, recipe.input_shape(3), dtype=np.uint8)
    samples = normalised(pixels, recipe)
    exported = to_onnx(
        ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx", dynamic_batch=True)
    )
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, one_thread)
    (expected,) = session.run(None, {"clips": samples})
    assert np.ptp(expected, axis=0).max() > 1e-3  # the samples differ
    engines = {
        dtype: open_engine(
            "seeded:0",
            TorchOptions(recipe=recipe, input_dtype=dtype, **ONE_THREAD),  # type: ignore[arg-type]
            batch_size=3,
        )
        for dtype in ("float32", "uint8")
    }
    engine = engines["float32"]
    assert [(spec.name, spec.shape) for spec in (*engine.inputs, *engine.outputs)] == [
        (session.get_inputs()[0].name, samples.shape),
        (session.get_outputs()[0].name, expected.shape),
    ]
    (found,) = engine.run([samples])
    assert found.dtype == np.float32
    assert compare(name, batch_size=3, rows=(expected, found)).passed
    np.testing.assert_array_equal(engines["uint8"].run([pixels])[0], found)
    rough = TorchOptions(recipe=recipe, precision="bf16", **ONE_THREAD)
    (rounded,) = open_engine("seeded:0", rough, batch_size=3).run([samples])
    assert rounded.dtype == np.float32 and 0 < np.abs(rounded - found).max() < 0.05


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(str(write_recipe(tmp_path)))


def evaluated(folder: Path, annotations: Path, **changes: object) -> Evaluation:
    return run_evaluation(folder, None, annotations, **{"engine": "torch", **ONE_THREAD, **changes})


def rows_in(folder: Path) -> list[tuple[int, bytes]]:
    return [(row.index, row.scores.tobytes()) for row in read_rows(folder / "record.jsonl")]


def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of a device is the CPU again, with a network of its own."""
    monkeypatch.setattr(
        torch_engine, "chosen_devices", lambda numbers: tuple(torch.device("cpu") for _ in numbers)
    )


def test_an_evaluation_before_and_after_the_export_is_one_comparison(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    annotations = write_list(tmp_path / "list.txt", 7)
    model = to_onnx(ToOnnxOptions(recipe=recipe, checkpoint="seeded:0", output=tmp_path / "m.onnx"))
    run_evaluation(tmp_path / "after", model, annotations, threads=1)
    one = evaluated(tmp_path / "one", annotations, batch_size=2, workers=2, compare=tmp_path / "after")
    assert one.comparison is not None
    paired = one.comparison.paired
    assert (paired.n, paired.disagreements, paired.regressions, paired.fixes) == (7, 0, 0, 0)
    header = read_header(tmp_path / "one" / "record.jsonl")
    assert (header["engine"], header["engine_version"]) == ("torch, CPU (torch, f32)", torch.__version__)
    assert header["batch_size"] == 2 and header["precision"] == "f32"
    again = evaluated(tmp_path / "one", annotations, batch_size=2)
    assert (again.run.resumed, again.run.computed) == (7, 0)
    with pytest.raises(UsageError, match=r"a different evaluation \(model_sha256"):
        evaluated(tmp_path / "one", annotations, batch_size=2, checkpoint="seeded:1")
    two_devices(monkeypatch)
    both = evaluated(tmp_path / "both", annotations, batch_size=2, device=(0, 1))
    assert read_header(tmp_path / "both" / "record.jsonl")["batch_size"] == 4
    assert rows_in(tmp_path / "both") == rows_in(tmp_path / "one")
    assert both.metrics_path.read_bytes() == one.metrics_path.read_bytes()


def test_a_clip_store_is_run_by_several_devices_and_bf16_is_checked(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network, _ = load_network(recipe, "seeded:3")
    best = tmp_path / "best.pth"
    torch.save({"meta": {}, "state_dict": network.state_dict(), "optimizer": {"param_groups": []}}, best)
    samples = np.random.default_rng(1).normal(size=(5, *recipe.views.sample_shape)).astype(np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(samples)).softmax(1).numpy()
    clips = store(tmp_path / "store", samples)
    two_devices(monkeypatch)
    options = TorchOptions(checkpoint=str(best), devices=(0, 1), precision="bf16", threads=1)
    result = run_infer(
        recipe=recipe, engine=options, input=clips, output=tmp_path, output_dirname="out",
        outfmt="NPY", dym_batch=2, say=lambda _: None,
    )  # fmt: skip
    assert result.precision_check is not None and result.precision_check.samples == 5
    entries, document = read_summary(tmp_path / "out_summary.json")
    found = np.concatenate([read_output(entry.outfiles[0], classes=7) for entry in entries])
    np.testing.assert_allclose(found, truth, atol=0.03)
    assert result.precision_check.max_difference == pytest.approx(np.abs(found - truth).max(), rel=0.05)
    facts = document["vidom"]
    assert facts["model_sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()
    assert (facts["engine"], facts["batch_size"], facts["padded_rows"]) == ("torch", 4, 3)


def test_what_the_network_does_not_go_with_is_refused(recipe: Recipe, tmp_path: Path):
    annotations = write_list(tmp_path / "list.txt", 3)
    with pytest.raises(UsageError, match=r"runs the network of a checkpoint, not the model m\.onnx"):
        run_evaluation(tmp_path / "out", Path("m.onnx"), annotations, engine="torch", checkpoint="seeded:0")
    with pytest.raises(UsageError, match=r"needs a mmaction2 checkpoint, but none was given"):
        evaluated(tmp_path / "out", annotations, checkpoint="")
    with pytest.raises(UsageError, match=r"nowhere\.pth does not exist"):
        evaluated(tmp_path / "out", annotations, checkpoint="nowhere.pth")
    with pytest.raises(UsageError, match="--model is missing"):
        run_evaluation(tmp_path / "out", None, annotations)
    with pytest.raises(UsageError, match="name it with --recipe"):
        choose_engine(None, TorchOptions(checkpoint="seeded:0"))
    assert not (tmp_path / "out").exists()


def test_failures_of_a_device_are_reported_as_such(recipe: Recipe):
    engine = TorchEngine("best.pth", TorchOptions(recipe=recipe, **ONE_THREAD))
    with pytest.raises(RuntimeError, match="a fault of ours"), engine._device_failures():
        raise RuntimeError("a fault of ours")
    engine._kind = "cuda"
    with pytest.raises(UnavailableError, match="smaller --batch_size"), engine._device_failures():
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")
    with (
        pytest.raises(ExternalToolError, match=r"best\.pth \(CUDA error: an illegal"),
        engine._device_failures(),
    ):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")
