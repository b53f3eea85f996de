"""Lists, recipes and models whose scores are sums of integers, so that every engine must give the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from run_infer import run_infer

from infer.engines.engine_options import OnnxRuntimeOptions
from infer.engines.engine_request import engine_options
from infer.evaluate import EvaluateOptions, evaluate
from infer.evaluation.conclusion import Evaluation
from postprocess.score import ScoreOptions, score
from preprocess.datasets.annotations import read_annotations
from preprocess.pack import PackOptions, pack
from preprocess.tensors.samples import make_sample, open_source
from vidom.formats.recipe import Recipe, load_recipe

FRAMES = Path(__file__).resolve().parents[2] / "fixtures" / "synth"
FOLDERS = ("land_427x240", "odd_341x257", "one_320x240", "port_240x427")
CLASSES = 7
SHAPE = (2, 3, 8, 8)
# Pixels times these add up to less than 2^24, so that float32 is exact in any order of addition.
WEIGHTS = np.random.default_rng(5).integers(-2, 3, (int(np.prod(SHAPE)), CLASSES)).astype(np.float32)
RECIPE = """
name: sums
summary: two frames of 8 pixels, not normalised
network: {arch: tsm, depth: 10, base_channels: 8}
checkpoint: {framework: mmaction2, file: none.pth}
dataset: {name: sums, num_classes: 7, labels: LABELS}
views:
  num_segments: 2
  short_side: 8
  crop: center
  crop_size: 8
  mean: [0, 0, 0]
  std: [1, 1, 1]
head: {softmax: true, average_clips: score}
"""


def write_recipe(folder: Path) -> Path:
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    path = folder / "sums.yaml"
    path.write_text(RECIPE.replace("LABELS", str(labels)))
    return path


def write_list(path: Path, samples: int, *, missing: tuple[int, ...] = ()) -> Path:
    """Write a list of samples, which are links to synthetic videos in `data` next to it, but for the `missing` ones."""
    data = path.parent / "data"
    data.mkdir(exist_ok=True)
    lines = []
    for number in range(samples):
        frames = FRAMES / FOLDERS[number % len(FOLDERS)]
        lines.append(f"s{number:03d} {len(list(frames.iterdir()))} {number % CLASSES}\n")
        link = data / f"s{number:03d}"
        if number not in missing and not link.exists():
            link.symlink_to(frames)
    path.write_text("".join(lines))
    return path


def sum_model(path: Path, batch: int | str, *, dtype: str = "float32", weights: np.ndarray = WEIGHTS) -> Path:
    """Save a model: samples [batch, 2, 3, 8, 8] -> the flat sample times `weights`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["samples"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["rows"], axis=1),
        helper.make_node("MatMul", ["rows", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("samples", kind, (batch, *SHAPE))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (batch, weights.shape[1]))],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def om_model(path: Path, rows: int) -> Path:
    """Write the same as an offline model of the ais_bench stub."""
    path.write_text(json.dumps({"rows": rows, "weights": WEIGHTS.tolist()}))
    return path


def scores_by_hand(ann_file: Path, recipe: Recipe, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    data = ann_file.parent / "data"
    tensors = [
        make_sample(open_source(entry, data_root=data), recipe.views).tensor
        for entry in read_annotations(ann_file)
    ]
    return np.stack(tensors).reshape(len(tensors), -1).astype(np.float64) @ weights


def evaluate_options(folder: Path, model: Path | None, ann_file: Path, **changes: object) -> EvaluateOptions:
    """Return options with ONNX Runtime and one worker; those named below are of the `engine`."""
    chosen = {"data_root": ann_file.parent / "data", "workers": 1, **changes}
    of_engines = ("threads", "precision", "device", "checkpoint")
    given = {key: chosen.pop(key) for key in of_engines if key in chosen}
    engine = engine_options(str(chosen.pop("engine", "onnxruntime")), given)
    recipe = load_recipe(str(folder.parent / "sums.yaml"))
    return EvaluateOptions(
        recipe=recipe, model=model, ann_file=ann_file, output_dir=folder, engine=engine, **chosen
    )  # type: ignore[arg-type]


def run_evaluation(folder: Path, model: Path | None, ann_file: Path, **changes: object) -> Evaluation:
    return evaluate(evaluate_options(folder, model, ann_file, **changes))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def metrics_through_files(
    work: Path, recipe: Recipe, model: Path, ann_file: Path, *, dtype: str = "float32"
) -> bytes:
    """Return the metrics.json of packing, inference and scoring, of the samples that can be read."""
    store = pack(
        PackOptions(
            recipe=recipe,
            data_root=ann_file.parent / "data",
            ann_file=ann_file,
            output_dir=work / "store",
            dtype=dtype,  # type: ignore[arg-type]
            workers=1,
            on_bad="skip",
        )
    )
    result = run_infer(
        model=model,
        input=store.folder / "clips",
        output=work,
        output_dirname="out",
        outfmt="NPY",
        engine=OnnxRuntimeOptions(),
        say=lambda _: None,
    )
    assert result.summary is not None
    scored = score(ScoreOptions(result_path=result.summary, info_path=store.folder / "sums.info"))
    return scored.metrics_path.read_bytes()
