"""From frames to scores through every stage, compared with what the original frameworks computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from export.to_onnx import main as to_onnx
from infer.inference import InferOptions, infer
from postprocess.score import ScoreOptions, score
from preprocess.pack import main as pack
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import read_output, read_summary

PROBABILITY_TOLERANCE = 5e-5


def annotate(path: Path, folders: Sequence[Path], labels: Sequence[int]) -> Path:
    lines = [
        f"{folder.name} {len(list(folder.glob('img_*.jpg')))} {label}"
        for folder, label in zip(folders, labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def build(folder: Path, recipe: str, batch_size: int, *words: str) -> Path:
    naive, final = folder / "naive.onnx", folder / "new.onnx"
    to_onnx(
        ["--recipe", recipe, "--checkpoint", "seeded:0", "-bs", str(batch_size), "-o", str(naive), *words]
    )
    final.write_bytes(model_bytes(run_passes(naive, batch_size=batch_size).model))
    return final


def rows_by_id(model: Path, store: ClipStore, output: Path, outfmt: str = "NPY") -> dict[str, np.ndarray]:
    infer(
        InferOptions(
            model=model,
            input=str(store.folder / "clips"),
            output=output,
            output_dirname="out",
            outfmt=outfmt,
        )
    )
    entries, _ = read_summary(output / "out_summary.json")
    names = {clip_file.name: store.samples[clip_file.samples[0]].id for clip_file in store.files}
    return {
        names[Path(entry.infiles[0]).name]: read_output(entry.outfiles[0], classes=len(store.labels))[0]
        for entry in entries
    }


def check_against_original(
    recipe: str, averaging: str, folders: Sequence[Path], truth: Path, root: str, work: Path
) -> None:
    """The scores of each folder's frames equal the original's within the tolerance of the truth."""
    ann = annotate(work / "list.txt", folders, range(len(folders)))
    words = ["--recipe", recipe, "--data_root", str(folders[0].parent), "--ann_file", str(ann)]
    pack([*words, "--output_dir", str(work / "store")])
    model = build(work, recipe, 1, "--average_clips", averaging)
    store = ClipStore.open(work / "store")
    found = rows_by_id(model, store, work)
    original = np.load(truth)
    field = {"score": "softmax_of_mean_logits", "prob": "prob_avg"}[averaging]
    for sample in store.samples.values():
        frames = len(list((folders[0].parent / sample.id).glob("img_*.jpg")))
        wanted = original[f"{recipe}|{root}/{sample.id}:{frames}|{field}"][0]
        assert np.abs(found[sample.id] - wanted).max() <= PROBABILITY_TOLERANCE
        best, second = np.sort(wanted)[::-1][:2]
        if best - second > 2 * PROBABILITY_TOLERANCE:
            assert found[sample.id].argmax() == wanted.argmax()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "averaging", "names"),
    [
        ("tsm_sthv2", "score", ("land_427x240", "port_240x427")),
        ("tsm_sthv2", "prob", ("land_427x240", "port_240x427")),
        ("tsm_ucf101", "prob", ("odd_341x257", "one_320x240")),
        ("tsm_k400", "prob", ("land_427x240",)),
    ],
)
def test_drawn_frames_get_the_original_scores(
    recipe: str, averaging: str, names: tuple[str, ...], fixtures: Path, tmp_path: Path
):
    truth = fixtures / "mmaction2" / "synth_only" / "e2e.npz"
    folders = [fixtures / "synth" / name for name in names]
    check_against_original(recipe, averaging, folders, truth, "synth", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["score", "prob"])
def test_real_frames_get_the_original_scores(averaging: str, shared: Path, tmp_path: Path):
    truth = shared / "fixtures" / "mmaction2" / "e2e.npz"
    folders = [shared / "data" / "rawframes" / "demo"]
    check_against_original("tsm_sthv2", averaging, folders, truth, "rawframes", tmp_path)


def test_the_two_averagings_disagree_about_the_demo_video(shared: Path):
    original = np.load(shared / "fixtures" / "mmaction2" / "e2e.npz")
    key = "tsm_sthv2|rawframes/demo:280|"
    assert original[f"{key}prob_avg"].argmax() != original[f"{key}softmax_of_mean_logits"].argmax()


@pytest.fixture(scope="module")
def tiny(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, ClipStore]]:
    """A recipe with its label file, and stores of nine drawn videos in both dtypes."""
    work = tmp_path_factory.mktemp("tiny")
    labels = work / "labels.txt"
    labels.write_text("\n".join(f"class {index}" for index in range(7)))
    recipe = work / "tiny.yaml"
    recipe.write_text(tiny_recipe.read_text().replace("labels/tiny.txt", str(labels)))
    folders = sorted((Path(__file__).parent / "fixtures" / "synth").iterdir())
    ann = annotate(work / "list.txt", folders, [number % 7 for number in range(len(folders))])
    stores = {}
    for dtype in ("float32", "uint8"):
        target = work / dtype
        words = ["--recipe", str(recipe), "--data_root", str(folders[0].parent), "--ann_file", str(ann)]
        pack([*words, "--output_dir", str(target), "--dtype", dtype])
        stores[dtype] = ClipStore.open(target)
    return str(recipe), stores


@pytest.mark.slow
def test_scores_are_the_same_for_every_batch_size_format_and_dtype(
    tiny: tuple[str, dict[str, ClipStore]], tmp_path: Path
):
    recipe, stores = tiny
    rows, metrics = {}, {}
    for dtype, store in stores.items():
        for batch_size in (1, 3, 4, 8):
            work = tmp_path / f"{dtype}{batch_size}"
            work.mkdir()
            model = build(work, recipe, batch_size, "--input_dtype", dtype)
            for outfmt in ("NPY", "TXT"):
                output = work / outfmt
                rows[dtype, batch_size, outfmt] = rows_by_id(model, store, output, outfmt)
                scored = score(
                    ScoreOptions(
                        result_path=output / "out_summary.json", info_path=store.folder / "tiny.info"
                    )
                )
                metrics[dtype, batch_size, outfmt] = scored.metrics
    reference = rows["float32", 1, "NPY"]
    assert len(reference) == 9
    for (dtype, _, outfmt), found in rows.items():
        # Scaling that is folded into weights is rounded there once more; TXT keeps six decimals.
        atol = {"float32": 2e-7, "uint8": 1e-6}[dtype] + (5e-7 if outfmt == "TXT" else 0)
        for sample, row in found.items():
            np.testing.assert_allclose(row, reference[sample], atol=atol, rtol=0)
    first = metrics["float32", 1, "NPY"]
    for found in metrics.values():
        assert (found.top1, found.top5) == (first.top1, first.top5)


@pytest.mark.slow
def test_real_frames_score_alike_at_batch_1_and_4(shared: Path, tmp_path: Path):
    folders = [shared / "data" / "rawframes" / name for name in ("demo", "part_0", "test")]
    ann = annotate(tmp_path / "list.txt", folders, (173, 5, 68))
    words = ["--recipe", "tsm_sthv2", "--data_root", str(folders[0].parent), "--ann_file", str(ann)]
    pack([*words, "--output_dir", str(tmp_path / "store")])
    store = ClipStore.open(tmp_path / "store")
    found = {}
    for batch_size in (1, 4):
        work = tmp_path / str(batch_size)
        work.mkdir()
        found[batch_size] = rows_by_id(build(work, "tsm_sthv2", batch_size), store, work)
        score(
            ScoreOptions(
                result_path=work / "out_summary.json",
                info_path=store.folder / "sthv2.info",
                output=work / "m.json",
            )
        )
    for sample, row in found[1].items():
        np.testing.assert_allclose(found[4][sample], row, atol=2e-7, rtol=0)
    top1 = json.loads((tmp_path / "1" / "m.json").read_text())["top1"]
    assert top1 == json.loads((tmp_path / "4" / "m.json").read_text())["top1"]
