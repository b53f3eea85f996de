from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchmarks.inference.__main__ import InferenceOptions, inference, main
from benchmarks.inference.rows import Measured, Row, centred_logits, measured
from benchmarks.inference.tables import table_of, targets_of
from benchmarks.inference.variants import Subject, Variant, openvino_precisions, subject_of, variants_of
from vidom.errors import UsageError
from vidom.formats.recipe import load_recipe


@pytest.fixture(scope="module")
def subject(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(str(tiny_recipe), 2, tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_every_variant_has_a_row_and_targets_follow_from_the_seconds(tiny_recipe: Path, tmp_path: Path):
    recipe = load_recipe(str(tiny_recipe))
    report = inference(
        InferenceOptions(
            recipes=(str(tiny_recipe),),
            batches=(2,),
            growth=(2,),
            scaling_recipe=recipe,
            output_dir=tmp_path,
            rounds=1,
            samples=3,
        )
    )
    document = json.loads((tmp_path / "inference.json").read_text())
    case, scaling = document["tables"]
    assert case["title"] == "tiny, batch 2" and (tmp_path / "inference.md").read_text() == report.text
    rows = {tuple(row[:3]): row for row in case["rows"]}
    precisions = openvino_precisions()
    assert set(rows) == {
        ("torch eager", "network", "f32"),
        *(("ONNX Runtime", graph, "f32") for graph in ("naive", "exported", "modified", "no shift")),
        *(("OpenVINO", graph, form) for graph in ("naive", "modified") for form in precisions),
        *([] if torch.cuda.is_available() else [("GPU", "not measured (no GPU)", None)]),
    }
    graph_suffix = {"naive": "_naive", "exported": ""}
    for (engine, graph, form), row in rows.items():
        if engine == "GPU":
            continue
        operators, slices, seconds, rate, ratio, share, difference, flips = row[3:]
        if graph in ("naive", "exported"):
            nodes = onnx.load(tmp_path / "models" / f"tiny_bs2{graph_suffix[graph]}.onnx").graph.node
            assert (operators, slices) == (len(nodes), sum(node.op_type == "Slice" for node in nodes))
        assert seconds > 0 and rate == pytest.approx(2 / seconds)
        assert ratio == pytest.approx(rows["ONNX Runtime", "naive", "f32"][5] / seconds)
        assert (share is None) == (engine != "ONNX Runtime") and (share is None or 0 < share < 100)
        assert (flips is None) == (form == "f32") and (flips is None or flips.endswith(" of 4"))
        assert difference is None if graph == "no shift" else difference < (1e-4 if form == "f32" else 0.2)
    found = {target["what"].split(": ", 1)[1]: target for target in document["targets"]}
    seconds = {key: row[5] for key, row in rows.items()}
    ours = seconds["ONNX Runtime", "modified", "f32"]
    expected = {
        "modified, speedup over mmaction2's naive graph": seconds["ONNX Runtime", "naive", "f32"] / ours,
        "modified, speedup over torch eager": seconds["torch eager", "network", "f32"] / ours,
        "modified, seconds over those": ours / seconds["ONNX Runtime", "no shift", "f32"],
        "modified, share of non-convolution node time": rows["ONNX Runtime", "modified", "f32"][8] / 100,
    }
    for what, number in expected.items():
        (target,) = (target for name, target in found.items() if name.startswith(what))
        assert target["measured"] == pytest.approx(number)
    assert len(found) == 4 + len(precisions)
    assert len(scaling["rows"]) == 3 + len(precisions) and {row[1] for row in scaling["rows"]} == {2}
    assert all(row[2] > 0 and 0.03 < row[4] < 4 for row in scaling["rows"])
    assert (tmp_path / "inference.png").read_bytes().startswith(b"\x89PNG")


def case_with(subject: Subject, seconds: dict[tuple[str, str, str], float], share: float = 0.05) -> Measured:
    rows = (
        Row(Variant(*key), value, 9, 1, share if key[0] == "ONNX Runtime" else None, 0.0, None)
        for key, value in seconds.items()
    )
    return Measured(subject, tuple(rows))


@pytest.mark.slow
def test_targets_follow_from_the_seconds(subject: Subject):
    case = case_with(
        subject,
        {
            ("torch eager", "network", "f32"): 1.7,
            ("ONNX Runtime", "naive", "f32"): 1.2,
            ("ONNX Runtime", "modified", "f32"): 1.0,
            ("ONNX Runtime", "no shift", "f32"): 0.9,
            ("OpenVINO", "naive", "f32"): 1.1,
            ("OpenVINO", "naive", "bf16"): 0.6,
            ("OpenVINO", "modified", "bf16"): 0.4,
        },
    )
    found = [(round(target.measured, 9), target.required, target.met) for target in targets_of(case)]
    assert found == [
        (1.2, 1.15, True),
        (round(1 / 0.9, 9), 1.06, False),
        (0.05, 0.07, True),
        (1.7, 1.6, True),
        (1.1, 1.2, False),
        (1.5, 1.2, True),
    ]
    without = case_with(
        subject, {("ONNX Runtime", "naive", "f32"): 1.2, ("ONNX Runtime", "modified", "f32"): 1.0}
    )
    assert [target.required for target in targets_of(without)] == [1.15, 0.07]


def test_other_networks_are_compared_with_their_own_export(tmp_path: Path):
    recipe = load_recipe("i3d_k400").one_view()
    subject = Subject(recipe, 1, None, {"exported": tmp_path, "modified": tmp_path})  # type: ignore[arg-type]
    case = case_with(
        subject, {("ONNX Runtime", "exported", "f32"): 1.1, ("ONNX Runtime", "modified", "f32"): 1.0}
    )
    (target,) = targets_of(case)
    assert target.measured == pytest.approx(1.1) and target.met and "unmodified export" in target.what
    assert [row[7] for row in table_of(case).rows[:2]] == [1.0, pytest.approx(1.1)]


def test_flips_and_differences_are_those_of_the_rows(subject: Subject, monkeypatch: pytest.MonkeyPatch):
    """Variants with given outputs, so that the differences are known."""
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.ones(7), size=6).astype(np.float32)
    rough = table.copy()
    rough[[1, 4]] = np.roll(table[[1, 4]], 1, axis=1)  # the best class of two samples differs
    scaled = table**2 / (table**2).sum(axis=1, keepdims=True)  # logits doubled

    @contextmanager
    def opened(variant: Variant, subject: Subject) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        outputs = rough if variant.precision == "bf16" else scaled if variant.graph == "naive" else table

        def rows(batch: np.ndarray) -> np.ndarray:
            (seed,) = (seed for seed in range(3) if np.array_equal(batch, subject.sample(seed)))
            return outputs[2 * seed : 2 * seed + 2]

        yield rows

    variants = (
        Variant("torch eager", "network"),
        Variant("ONNX Runtime", "naive"),
        Variant("OpenVINO", "modified"),
        Variant("OpenVINO", "modified", "bf16"),
    )
    monkeypatch.setattr("benchmarks.inference.rows.opened", opened)
    monkeypatch.setattr("benchmarks.inference.rows.variants_of", lambda _subject: variants)
    case = measured(subject, rounds=1, samples=5)
    exact, doubled, same, flipped = case.rows
    assert [row.flips for row in case.rows] == [None, None, None, (2, 6)]
    assert exact.logits == same.logits == 0 and flipped.logits and flipped.logits > 0
    logits = np.log(table[:2].astype(np.float64))
    logits -= logits.mean(axis=1, keepdims=True)
    assert doubled.logits == pytest.approx(np.abs(logits).max(), rel=1e-4)


def test_logits_are_recovered_from_probabilities():
    logits = np.random.default_rng(1).normal(size=(3, 5))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred_logits(rows, softmax=True), expected, atol=1e-12)
    np.testing.assert_allclose(centred_logits(logits + 7, softmax=False), expected, atol=1e-12)


def test_a_gpu_is_measured_if_there_is_one(subject: Subject, monkeypatch: pytest.MonkeyPatch):
    assert all(not variant.gpu for variant in variants_of(subject)) or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    gpu = [(variant.engine, variant.graph) for variant in variants_of(subject) if variant.gpu]
    assert gpu == [("torch eager", "network"), ("ONNX Runtime", "naive"), ("ONNX Runtime", "modified")]


@pytest.mark.parametrize(
    "words", [["--batches", "0"], ["--growth", "0"], ["--rounds", "0"], ["--samples", "-1"]]
)
def test_wrong_numbers_are_rejected_before_anything_is_built(words: list[str], tmp_path: Path):
    with pytest.raises(UsageError, match=words[0]):
        main([*words, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UsageError, match="no recipe named"):
        main(["--recipes", "tsm_demo", "gone", "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
