"""Views stored and run one by one give the scores of whole samples, averaged inside the graph."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.surgery import model_bytes, run_passes
from export.to_onnx import main as to_onnx
from export.verify import main as verify
from infer.bench import infer
from infer.inputs import natural_key
from postprocess.score import score
from preprocess.clips import read_clips
from preprocess.frames import RawFrames
from preprocess.pack import pack
from vidom.clip_store import ClipStore
from vidom.errors import BadData, UsageError
from vidom.recipe import Recipe, load_recipe
from vidom.results import read_output, read_summary

FRAMES = Path(__file__).parent / "fixtures" / "synth"
NAMES = ("i3d_340x256", "land_427x240", "odd_341x257", "one_320x240", "port_240x427")
I3D = """
name: tiny_i3d
summary: an I3D small enough to build many times
network: {arch: i3d, depth: 26, base_channels: 8}
checkpoint: {framework: mmaction2, file: tiny.pth}
dataset: {name: tiny, num_classes: 7, labels: LABELS}
views:
  num_segments: 2
  clip_len: 8
  frame_interval: 2
  short_side: 32
  crop: three
  crop_size: 32
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
  layout: NCTHW
head: {softmax: true, average_clips: prob}
"""
VIEWS = 6


@pytest.fixture(scope="module")
def recipes(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six views of four frames for TSM, six of eight for I3D."""
    work = tmp_path_factory.mktemp("recipes")
    labels = work / "labels.txt"
    labels.write_text("\n".join(f"class {index}" for index in range(7)))
    texts = {"tsm": tiny_recipe.read_text().replace("labels/tiny.txt", str(labels))}
    texts["i3d"] = I3D.replace("LABELS", str(labels))
    for name, text in texts.items():
        (work / f"{name}.yaml").write_text(text)
    return {name: work / f"{name}.yaml" for name in texts}


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(
        "".join(
            f"{name} {len(list((FRAMES / name).iterdir()))} {index % 7}\n" for index, name in enumerate(NAMES)
        )
    )
    return path


def packed(recipe: Recipe, annotations: Path, folder: Path, **options: object) -> ClipStore:
    return pack(recipe=recipe, data_root=FRAMES, ann_file=annotations, output_dir=folder, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Built:
    """One recipe and one way of averaging, as whole samples and as single views."""

    recipe: Recipe
    words: list[str]
    whole: ClipStore
    parts: ClipStore
    whole_model: Path
    parts_model: Path


@pytest.fixture(scope="module")
def built(
    recipes: dict[str, Path], annotations: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Built]:
    made: dict[tuple[str, str], Built] = {}

    def build(arch: str, averaging: str) -> Built:
        if (arch, averaging) in made:
            return made[arch, averaging]
        work = tmp_path_factory.mktemp(f"{arch}_{averaging}")
        recipe = load_recipe(str(recipes[arch]), [f"head.average_clips={averaging}"])
        words = ["--recipe", str(recipes[arch]), "--checkpoint", "seeded:0", "--average_clips", averaging]
        for name, flags in (("whole", []), ("parts", ["--per_view"])):
            to_onnx([*words, *flags, "-o", str(work / f"{name}.onnx")])
        made[arch, averaging] = Built(
            recipe=recipe,
            words=words,
            whole=packed(recipe, annotations, work / "whole"),
            parts=packed(recipe, annotations, work / "parts", per_view=True),
            whole_model=work / "whole.onnx",
            parts_model=work / "parts.onnx",
        )
        return made[arch, averaging]

    return build


def run(model: Path, store: ClipStore, work: Path, batch_size: int, outfmt: str = "NPY") -> Path:
    """Run the model after surgery over the store and return the summary."""
    work.mkdir()
    final = work / "new.onnx"
    final.write_bytes(model_bytes(run_passes(model, batch_size=batch_size).model))
    clips = str(store.folder / "clips")
    infer(model=final, input=clips, output=work, output_dirname="out", outfmt=outfmt, say=lambda _: None)
    return work / "out_summary.json"


def rows_by_file(summary: Path) -> dict[str, np.ndarray]:
    entries, _ = read_summary(summary)
    return {Path(entry.infiles[0]).stem: read_output(entry.outfiles[0])[0] for entry in entries}


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("averaging", ["prob", "score"])
@pytest.mark.parametrize("arch", ["tsm", "i3d"])
def test_scores_are_those_of_whole_samples(
    arch: str,
    averaging: str,
    built: Callable[[str, str], Built],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    one = built(arch, averaging)
    seen: list[np.ndarray] = []
    evaluate = sys.modules["postprocess.score"].evaluate
    monkeypatch.setattr(
        "postprocess.score.evaluate", lambda scores, labels: seen.append(scores) or evaluate(scores, labels)
    )
    metrics = []
    for batch_size in (1, 4):
        whole = run(one.whole_model, one.whole, tmp_path / f"whole{batch_size}", batch_size)
        parts = run(one.parts_model, one.parts, tmp_path / f"parts{batch_size}", batch_size)
        for summary, store in ((whole, one.whole), (parts, one.parts)):
            metrics.append(score(result_path=summary, info_path=store.folder / "tiny.info").metrics)
        # By hand, too: probabilities averaged, or logits averaged and then made probabilities.
        by_view = rows_by_file(parts)
        for index, row in enumerate(rows_by_file(whole).values()):
            views = np.stack([by_view[f"{index:06d}v{view:02d}"] for view in range(VIEWS)]).astype(np.float64)
            by_hand = views.mean(axis=0) if averaging == "prob" else softmax(views.mean(axis=0))
            np.testing.assert_allclose(seen[-1][index], by_hand, atol=1e-6, rtol=0)
            np.testing.assert_allclose(seen[-1][index], row, atol=1e-6, rtol=0)
            assert np.ptp(views, axis=0).max() > 1e-4, "the views are too alike to tell averagings apart"
    assert all(np.abs(scores - seen[0]).max() <= 1e-6 for scores in seen)
    assert len({(found.top1, found.top5) for found in metrics}) == 1


def test_metrics_are_the_same_bytes_in_every_format_and_order(
    built: Callable[[str, str], Built], tmp_path: Path
):
    one = built("tsm", "score")
    files = set()
    for outfmt in ("NPY", "BIN"):
        summary = run(one.parts_model, one.parts, tmp_path / outfmt, 4, outfmt)
        document = json.loads(summary.read_text())
        entries = list(document["filesinfo"].values())
        for order in (entries, entries[::-1], sorted(entries, key=lambda entry: entry["infiles"][0][-7:])):
            document["filesinfo"] = {str(number): entry for number, entry in enumerate(order)}
            summary.write_text(json.dumps(document))
            scored = score(result_path=summary, info_path=one.parts.folder / "tiny.info")
            files.add(scored.metrics_path.read_bytes())
            assert f"The logits of each sample's {VIEWS} views were averaged." in scored.remarks
    assert len(files) == 1


@pytest.mark.parametrize("arch", ["tsm", "i3d"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_files_are_the_views_of_the_whole_sample_in_its_order(
    arch: str, dtype: str, recipes: dict[str, Path], annotations: Path, tmp_path: Path
):
    recipe = load_recipe(str(recipes[arch]))
    whole = packed(recipe, annotations, tmp_path / "whole", dtype=dtype)
    parts = packed(recipe, annotations, tmp_path / "parts", dtype=dtype, per_view=True)
    shape = {"tsm": (4, 3, 32, 32), "i3d": (1, 3, 8, 32, 32)}[arch]
    assert parts.header.shape == recipe.one_view().views.sample_shape == shape
    assert (parts.header.views_per_sample, parts.header.average_clips) == (VIEWS, recipe.head.average_clips)
    assert parts.header.sample_bytes == whole.header.sample_bytes == VIEWS * parts.header.file_bytes
    assert parts.samples == whole.samples
    info = [(store.folder / "tiny.info").read_text() for store in (whole, parts)]
    assert info[0] == info[1]

    # Sorted as ais_bench sorts, the files are sample after sample, view after view.
    names = sorted((path.name for path in (parts.folder / "clips").iterdir()), key=natural_key)
    assert names == [clip_file.name for clip_file in parts.files]
    assert [(f.samples, f.view) for f in parts.files] == [
        ((index,), view) for index in range(len(NAMES)) for view in range(VIEWS)
    ]
    assert names[:2] == ["000000v00.bin", "000000v01.bin"]
    for sample, clip_file in enumerate(whole.files):
        views = np.concatenate([parts.read(part) for part in parts.files if part.samples == (sample,)])
        np.testing.assert_array_equal(views.reshape(whole.header.shape), whole.read(clip_file)[0])


def test_thirty_clips_of_pptsm_are_those_of_the_whole_sample(annotations: Path, tmp_path: Path):
    recipe = load_recipe("pptsm_k400_dense", ["views.short_side=40", "views.crop_size=32"])
    whole = packed(recipe, annotations, tmp_path / "whole", limit=2)
    parts = packed(recipe, annotations, tmp_path / "parts", limit=2, per_view=True)
    assert (parts.header.views_per_sample, parts.header.shape) == (30, (8, 3, 32, 32))
    views = np.concatenate([parts.read(clip_file) for clip_file in parts.files])
    samples = np.concatenate([whole.read(clip_file) for clip_file in whole.files])
    np.testing.assert_array_equal(views.reshape(samples.shape), samples)


@pytest.mark.parametrize(("arch", "averaging"), [("tsm", "prob"), ("i3d", "score")])
def test_the_graph_takes_one_view_and_is_proved(
    arch: str, averaging: str, built: Callable[[str, str], Built], capsys: pytest.CaptureFixture[str]
):
    one = built(arch, averaging)
    graph = onnx.load(one.parts_model).graph
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == {"tsm": [1, 4, 3, 32, 32], "i3d": [1, 1, 3, 8, 32, 32]}[arch]
    assert graph.output[0].name == {"prob": "probabilities", "score": "logits"}[averaging]
    assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [1, 7]
    verify([*one.words, "--per_view", "--model", str(one.parts_model)])
    assert capsys.readouterr().out.splitlines()[-1] == "PASSED"
    with pytest.raises(BadData, match="takes samples of shape"):
        verify([*one.words, "--model", str(one.parts_model)])


def test_models_and_stores_of_views_and_of_samples_do_not_mix(
    built: Callable[[str, str], Built], tmp_path: Path
):
    one = built("tsm", "score")
    with pytest.raises(
        UsageError, match="holds float32 views of 4×3×32×32 .* with --per_view from the recipe"
    ):
        run(one.whole_model, one.parts, tmp_path / "a", 1)
    with pytest.raises(UsageError, match="with --per_view, pack with --per_view too"):
        run(one.parts_model, one.whole, tmp_path / "b", 1)


def test_views_averaged_another_way_than_the_store_says_are_refused(
    built: Callable[[str, str], Built], tmp_path: Path
):
    for store, model, found in (("score", "prob", "probabilities"), ("prob", "score", "logits")):
        summary = run(built("tsm", model).parts_model, built("tsm", store).parts, tmp_path / store, 4)
        with pytest.raises(BadData, match=rf"average_clips {store}\), but the model gave {found}"):
            score(result_path=summary, info_path=built("tsm", store).parts.folder / "tiny.info")


def test_missing_and_double_views_are_refused_by_name(built: Callable[[str, str], Built], tmp_path: Path):
    one = built("tsm", "prob")
    info = one.parts.folder / "tiny.info"
    summary = run(one.parts_model, one.parts, tmp_path / "run", 4)
    document = json.loads(summary.read_text())
    entries = document["filesinfo"]

    def refusal(changed: dict[str, object]) -> str:
        summary.write_text(json.dumps({**document, "filesinfo": changed}))
        with pytest.raises(BadData) as caught:
            score(result_path=summary, info_path=info)
        return str(caught.value)

    for view in (0, 3):
        told = refusal({key: entry for key, entry in entries.items() if int(key) != 2 * VIEWS + view})
        assert told.startswith("1 views have no output") and f"view {view} of sample 2 (odd_341x257)" in told
    told = refusal({key: entry for key, entry in entries.items() if int(key) // VIEWS != 2})
    assert "1 of the 5 samples in the list have no output: 2 (odd_341x257)" in told
    copy = tmp_path / "run" / "out" / "copy_0.npy"
    copy.write_bytes(Path(entries["7"]["outfiles"][0]).read_bytes())
    told = refusal({**entries, "99": {"infiles": entries["7"]["infiles"], "outfiles": [str(copy)]}})
    assert "1 views have more than one output: view 1 of sample 1 (land_427x240)" in told


def test_packing_holds_about_one_view(recipes: dict[str, Path], tmp_path: Path):
    many = ["views.num_segments=10", "views.clip_len=16", "views.short_side=64", "views.crop_size=64"]
    recipe = load_recipe(str(recipes["i3d"]), many)
    ann = tmp_path / "one.txt"
    ann.write_text("i3d_340x256 70 0\n")
    crops = read_clips(RawFrames(FRAMES / "i3d_340x256", 70), recipe.views).pixels.nbytes
    one_view = 4 * 3 * 16 * 64 * 64
    peaks = {}
    for per_view in (False, True):
        tracemalloc.start()
        packed(recipe, ann, tmp_path / str(per_view), per_view=per_view)
        peaks[per_view] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[False] > 30 * one_view
    # One view is held while the next is made; decoding and the rest take less than another two.
    assert peaks[True] < crops + 4 * one_view


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pack_words(recipe: Path, root: Path, annotations: Path, output: Path) -> Sequence[str]:
    words = ["-m", "preprocess.pack", "--per_view", "--recipe", str(recipe), "--data_root", str(root)]
    return [
        sys.executable,
        *words,
        "--ann_file",
        str(annotations),
        "--output_dir",
        str(output),
        "--workers",
        "1",
    ]


def test_killed_and_started_again_it_ends_with_the_same_bytes(recipes: dict[str, Path], tmp_path: Path):
    links, ann = tmp_path / "root", tmp_path / "list.txt"
    links.mkdir()
    for number in range(40):
        (links / f"v{number}").symlink_to(FRAMES / "i3d_340x256")
    ann.write_text("".join(f"v{number} 70 {number % 7}\n" for number in range(40)))
    recipe = load_recipe(str(recipes["i3d"]))
    pack(recipe=recipe, data_root=links, ann_file=ann, output_dir=tmp_path / "whole", per_view=True)
    command = pack_words(recipes["i3d"], links, ann, tmp_path / "killed")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    clips = tmp_path / "killed" / "clips"
    # In the middle of a sample's views.
    while process.poll() is None and len(list(clips.glob("*.bin"))) < 3 * VIEWS + 2:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f" {40 * VIEWS} files to write" not in done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_lost_view_is_made_again_and_nothing_else(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = load_recipe(str(recipes["tsm"]))
    store = packed(recipe, annotations, tmp_path / "s", per_view=True)
    before = contents(store.folder)
    (store.folder / "clips" / "000002v04.bin").unlink()
    with pytest.raises(BadData, match=r"000002v04\.bin.*is missing"):
        store.check_sizes()
    capsys.readouterr()
    packed(recipe, annotations, tmp_path / "s", per_view=True)
    assert f"; {VIEWS} files to write" in capsys.readouterr().err
    assert contents(store.folder) == before


def test_what_contradicts_single_views_is_refused(
    recipes: dict[str, Path], annotations: Path, tmp_path: Path
):
    recipe = load_recipe(str(recipes["tsm"]))
    with pytest.raises(UsageError, match="contradicts --batch_size 4"):
        packed(recipe, annotations, tmp_path / "a", per_view=True, batch_size=4)
    single = ["views.crop=center", "views.twice_sample=false"]
    with pytest.raises(UsageError, match="a single view already"):
        packed(load_recipe(str(recipes["tsm"]), single), annotations, tmp_path / "b", per_view=True)
    with pytest.raises(UsageError, match="a single view already"):
        to_onnx(
            ["--recipe", str(recipes["tsm"]), "--checkpoint", "seeded:0", "--per_view", "-o", "m.onnx"]
            + [word for setting in single for word in ("--set", setting)]
        )
    assert not list(tmp_path.rglob("*.bin"))


def test_a_manifest_that_lacks_a_view_is_damaged(recipes: dict[str, Path], annotations: Path, tmp_path: Path):
    packed(load_recipe(str(recipes["tsm"])), annotations, tmp_path / "s", per_view=True)
    whole = json.loads((tmp_path / "s" / "manifest.json").read_text())

    def refused(**changed: object) -> None:
        (tmp_path / "s" / "manifest.json").write_text(json.dumps({**whole, **changed}))
        with pytest.raises(BadData, match="is damaged"):
            ClipStore.open(tmp_path / "s")

    refused(files=whole["files"][1:])
    refused(files=[{**whole["files"][0], "view": 1}, *whole["files"][1:]])
    refused(average_clips="median")
    refused(average_clips="")
    refused(views_per_sample=10**12)
    refused(views_per_sample=0)
    refused(samples_per_file=2)
