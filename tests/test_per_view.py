"""Views stored and run one by one give the same scores as samples averaged inside the graph."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from view_recipes import VIEWS, packed, write_list, write_recipes

from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from export.to_onnx import main as to_onnx
from export.verify import main as verify
from infer.inference import InferOptions, infer
from postprocess.score import ScoreOptions, score
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe, load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipes(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_recipes(tmp_path_factory.mktemp("recipes"), tiny_recipe.read_text())


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_list(tmp_path_factory.mktemp("lists") / "list.txt")


@dataclass(frozen=True)
class Built:
    """The stores and models of one recipe and one average, per sample and per view."""

    recipe: Recipe
    words: list[str]
    samples: ClipStore
    views: ClipStore
    samples_model: Path
    views_model: Path


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
        for name, flags in (("samples", []), ("views", ["--per_view"])):
            to_onnx([*words, *flags, "-o", str(work / f"{name}.onnx")])
        made[arch, averaging] = Built(
            recipe=recipe,
            words=words,
            samples=packed(recipe, annotations, work / "samples"),
            views=packed(recipe, annotations, work / "views", per_view=True),
            samples_model=work / "samples.onnx",
            views_model=work / "views.onnx",
        )
        return made[arch, averaging]

    return build


def run(model: Path, store: ClipStore, work: Path, batch_size: int, outfmt: str = "NPY") -> Path:
    """Run the model after surgery over the store and return the summary."""
    work.mkdir()
    final = work / "new.onnx"
    final.write_bytes(model_bytes(run_passes(model, batch_size=batch_size).model))
    clips = str(store.folder / "clips")
    said: list[str] = []
    options = InferOptions(model=final, input=clips, output=work, output_dirname="out", outfmt=outfmt)
    result = infer(options, say=said.append)
    rows = len(store.samples) * store.header.views_per_sample
    assert (result.samples, result.padded_rows) == (len(store.samples), -rows % batch_size)
    assert any(
        f"end to end: {len(store.samples)} samples, {-rows % batch_size} padded" in line for line in said
    )
    return work / "out_summary.json"


def rows_by_file(summary: Path) -> dict[str, np.ndarray]:
    entries, _ = read_summary(summary)
    return {Path(entry.infiles[0]).stem: read_output(entry.outfiles[0])[0] for entry in entries}


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("averaging", ["prob", "score"])
@pytest.mark.parametrize("arch", ["tsm", "i3d"])
def test_scores_are_those_of_samples(
    arch: str,
    averaging: str,
    built: Callable[[str, str], Built],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    one = built(arch, averaging)
    seen: list[np.ndarray] = []
    evaluate = sys.modules["postprocess.scored"].evaluate
    monkeypatch.setattr(
        "postprocess.scored.evaluate", lambda scores, labels: seen.append(scores) or evaluate(scores, labels)
    )
    metrics = []
    for batch_size in (1, 4):
        by_sample = run(one.samples_model, one.samples, tmp_path / f"samples{batch_size}", batch_size)
        by_view = run(one.views_model, one.views, tmp_path / f"views{batch_size}", batch_size)
        for summary, store in ((by_sample, one.samples), (by_view, one.views)):
            metrics.append(
                score(ScoreOptions(result_path=summary, info_path=store.folder / "tiny.info")).metrics
            )
        # Independently: the mean of the probabilities, or softmax of the mean logits.
        rows = rows_by_file(by_view)
        for index, row in enumerate(rows_by_file(by_sample).values()):
            views = np.stack([rows[f"{index:06d}v{view:02d}"] for view in range(VIEWS)]).astype(np.float64)
            expected = views.mean(axis=0) if averaging == "prob" else softmax(views.mean(axis=0))
            np.testing.assert_allclose(seen[-1][index], expected, atol=1e-6, rtol=0)
            np.testing.assert_allclose(seen[-1][index], row, atol=1e-6, rtol=0)
            assert np.ptp(views, axis=0).max() > 1e-4, "the views are too similar to distinguish the averages"
    assert all(np.abs(scores - seen[0]).max() <= 1e-6 for scores in seen)
    assert len({(found.top1, found.top5) for found in metrics}) == 1


def test_metrics_are_the_same_bytes_in_every_format_and_order(
    built: Callable[[str, str], Built], tmp_path: Path
):
    one = built("tsm", "score")
    files = set()
    for outfmt in ("NPY", "BIN"):
        summary = run(one.views_model, one.views, tmp_path / outfmt, 4, outfmt)
        document = json.loads(summary.read_text())
        entries = list(document["filesinfo"].values())
        for order in (entries, entries[::-1], sorted(entries, key=lambda entry: entry["infiles"][0][-7:])):
            document["filesinfo"] = {str(number): entry for number, entry in enumerate(order)}
            summary.write_text(json.dumps(document))
            scored = score(ScoreOptions(result_path=summary, info_path=one.views.folder / "tiny.info"))
            files.add(scored.metrics_path.read_bytes())
            assert f"The logits of each sample's {VIEWS} views were averaged." in scored.remarks
    assert len(files) == 1


@pytest.mark.parametrize(("arch", "averaging"), [("tsm", "prob"), ("i3d", "score")])
def test_the_graph_takes_one_view_and_is_verified(
    arch: str, averaging: str, built: Callable[[str, str], Built], capsys: pytest.CaptureFixture[str]
):
    one = built(arch, averaging)
    graph = onnx.load(one.views_model).graph
    dims = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == {"tsm": [1, 4, 3, 32, 32], "i3d": [1, 1, 3, 8, 32, 32]}[arch]
    assert graph.output[0].name == {"prob": "probabilities", "score": "logits"}[averaging]
    assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [1, 7]
    verify([*one.words, "--per_view", "--model", str(one.views_model)])
    assert capsys.readouterr().out.splitlines()[-1] == "PASSED"
    with pytest.raises(BadDataError, match="takes samples of shape"):
        verify([*one.words, "--model", str(one.views_model)])


def test_models_and_stores_of_views_and_of_samples_do_not_mix(
    built: Callable[[str, str], Built], tmp_path: Path
):
    one = built("tsm", "score")
    with pytest.raises(
        UsageError, match="holds float32 views of 4×3×32×32 .* with --per_view from the recipe"
    ):
        run(one.samples_model, one.views, tmp_path / "a", 1)
    with pytest.raises(UsageError, match="with --per_view, pack with --per_view too"):
        run(one.views_model, one.samples, tmp_path / "b", 1)


def test_an_average_that_differs_from_the_store_is_rejected(
    built: Callable[[str, str], Built], tmp_path: Path
):
    for store, model, found in (("score", "prob", "probabilities"), ("prob", "score", "logits")):
        summary = run(built("tsm", model).views_model, built("tsm", store).views, tmp_path / store, 4)
        with pytest.raises(BadDataError, match=rf"average_clips {store}\), but the model gave {found}"):
            score(ScoreOptions(result_path=summary, info_path=built("tsm", store).views.folder / "tiny.info"))


def test_missing_and_duplicate_views_are_rejected_by_name(built: Callable[[str, str], Built], tmp_path: Path):
    one = built("tsm", "prob")
    info = one.views.folder / "tiny.info"
    summary = run(one.views_model, one.views, tmp_path / "run", 4)
    document = json.loads(summary.read_text())
    entries = document["filesinfo"]

    def refusal(changed: dict[str, object]) -> str:
        summary.write_text(json.dumps({**document, "filesinfo": changed}))
        with pytest.raises(BadDataError) as caught:
            score(ScoreOptions(result_path=summary, info_path=info))
        return str(caught.value)

    for view in (0, 3):
        message = refusal({key: entry for key, entry in entries.items() if int(key) != 2 * VIEWS + view})
        assert (
            message.startswith("1 views have no output")
            and f"view {view} of sample 2 (odd_341x257)" in message
        )
    message = refusal({key: entry for key, entry in entries.items() if int(key) // VIEWS != 2})
    assert "1 of the 5 samples in the list have no output: 2 (odd_341x257)" in message
    copy = tmp_path / "run" / "out" / "copy_0.npy"
    copy.write_bytes(Path(entries["7"]["outfiles"][0]).read_bytes())
    message = refusal({**entries, "99": {"infiles": entries["7"]["infiles"], "outfiles": [str(copy)]}})
    assert "1 views have more than one output: view 1 of sample 1 (land_427x240)" in message
