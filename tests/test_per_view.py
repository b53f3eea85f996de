"""Views stored and run one by one give the scores of whole samples, averaged inside the graph."""

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
from export.surgery.run import run_passes
from export.to_onnx import main as to_onnx
from export.verify import main as verify
from infer.inference import InferOptions, infer
from postprocess.score import ScoreOptions, score
from vidom.errors import BadDataError, UsageError
from vidom.formats.clip_store import ClipStore
from vidom.formats.engine_outputs import read_output, read_summary
from vidom.formats.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def recipes(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_recipes(tmp_path_factory.mktemp("recipes"), tiny_recipe.read_text())


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_list(tmp_path_factory.mktemp("lists") / "list.txt")


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
    infer(
        InferOptions(model=final, input=clips, output=work, output_dirname="out", outfmt=outfmt),
        say=lambda _: None,
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
def test_scores_are_those_of_whole_samples(
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
        whole = run(one.whole_model, one.whole, tmp_path / f"whole{batch_size}", batch_size)
        parts = run(one.parts_model, one.parts, tmp_path / f"parts{batch_size}", batch_size)
        for summary, store in ((whole, one.whole), (parts, one.parts)):
            metrics.append(
                score(ScoreOptions(result_path=summary, info_path=store.folder / "tiny.info")).metrics
            )
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
            scored = score(ScoreOptions(result_path=summary, info_path=one.parts.folder / "tiny.info"))
            files.add(scored.metrics_path.read_bytes())
            assert f"The logits of each sample's {VIEWS} views were averaged." in scored.remarks
    assert len(files) == 1


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
    with pytest.raises(BadDataError, match="takes samples of shape"):
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
        with pytest.raises(BadDataError, match=rf"average_clips {store}\), but the model gave {found}"):
            score(ScoreOptions(result_path=summary, info_path=built("tsm", store).parts.folder / "tiny.info"))


def test_missing_and_double_views_are_refused_by_name(built: Callable[[str, str], Built], tmp_path: Path):
    one = built("tsm", "prob")
    info = one.parts.folder / "tiny.info"
    summary = run(one.parts_model, one.parts, tmp_path / "run", 4)
    document = json.loads(summary.read_text())
    entries = document["filesinfo"]

    def refusal(changed: dict[str, object]) -> str:
        summary.write_text(json.dumps({**document, "filesinfo": changed}))
        with pytest.raises(BadDataError) as caught:
            score(ScoreOptions(result_path=summary, info_path=info))
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
