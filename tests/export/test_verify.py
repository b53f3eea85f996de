from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.build_record import read_record
from export.modify_onnx import modify_onnx
from export.surgery.pass_types import Target
from export.to_onnx import build_deployable, to_onnx
from export.verification.parity import Tolerance, compare, render
from export.verify import main, verify
from networks.checkpoints.checkpoint import save_mmaction2
from vidom.errors import BadDataError, CheckFailedError
from vidom.formats.recipe import load_recipe

CHECKPOINT = "seeded:0"


def built(tiny_recipe: Path, folder: Path, **options: object) -> Path:
    recipe = load_recipe(str(tiny_recipe))
    return to_onnx(recipe=recipe, checkpoint=CHECKPOINT, output=folder / "m.onnx", **options)


def nudged(path: Path, by: float) -> None:
    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.name.endswith("fc_cls.weight"):
            changed = numpy_helper.to_array(weight).copy()
            changed[3] += by
            weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
            break
    else:
        pytest.fail("no classifier weight in the graph")
    onnx.save(model, path)


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"dynamic_batch": True}, {"input_dtype": "uint8"}])
def test_a_true_export_passes_at_several_batch_sizes_and_says_so_in_its_record(
    options: dict[str, object], tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = built(tiny_recipe, tmp_path, **options)
    words = ["--recipe", str(tiny_recipe), "--checkpoint", CHECKPOINT, "--model", str(path)]
    if "input_dtype" in options:
        words += ["--input_dtype", "uint8"]
    main(words)
    assert capsys.readouterr().out.splitlines()[-1] == "PASSED"
    parities = read_record(path)["parity"]
    assert {entry["batch_size"] for entry in parities} >= {1, 2}
    assert all(entry["passed"] for entry in parities)
    assert read_record(path)["made_from"]["recipe"] == "tiny"


@pytest.mark.parametrize(
    ("largest", "sizes", "left_out"), [(1, {1}, "2 and 3"), (2, {1, 2}, "3"), (3, {1, 2, 3}, "")]
)
def test_batches_that_need_too_much_memory_are_left_out_but_never_batch_1(
    largest: int,
    sizes: set[int],
    left_out: str,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    sample_bytes = 4 * 24 * 3 * 32 * 32
    # Below one sample, too, as with thirty views of I3D.
    limit = sample_bytes // 2 if largest == 1 else largest * sample_bytes
    monkeypatch.setattr("export.verify.LARGEST_BATCH_BYTES", limit)
    path = built(tiny_recipe, tmp_path, batch_size=3)
    parities = verify(recipe=load_recipe(str(tiny_recipe)), checkpoint=CHECKPOINT, models=[path])
    assert {parity.batch_size for parity in parities} == sizes
    told = capsys.readouterr().err
    assert ("too much memory" in told) == bool(left_out) and f"batch {left_out}" in told + "batch "


@pytest.mark.parametrize("target", ["cpu", "ascend310p"])
def test_an_operated_model_is_made_again_for_other_batches_while_its_origin_lies_beside_it(
    target: Target, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    exported, operated = built(tiny_recipe, tmp_path, batch_size=3), tmp_path / "m_new.onnx"
    modify_onnx(model=exported, output=operated, batch_size=3, target=target)
    recipe = load_recipe(str(tiny_recipe))
    found = {}
    for origin_is_there in (True, False):
        parities = verify(recipe=recipe, checkpoint=CHECKPOINT, models=[operated])
        assert all(parity.passed for parity in parities)
        found[origin_is_there] = {parity.batch_size for parity in parities}
        exported.unlink(missing_ok=True)
    assert found == {True: {1, 2, 3}, False: {3}}
    assert "at batch 3 alone" in capsys.readouterr().err


def test_a_changed_weight_fails_with_exit_code_1(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = built(tiny_recipe, tmp_path)
    nudged(path, 0.01)
    with pytest.raises(CheckFailedError) as error:
        main(["--recipe", str(tiny_recipe), "--checkpoint", CHECKPOINT, "--model", str(path)])
    assert error.value.exit_code == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
    assert not any(entry["passed"] for entry in read_record(path)["parity"])


def test_another_checkpoint_than_the_model_was_made_from_fails(tiny_recipe: Path, tmp_path: Path):
    recipe = load_recipe(str(tiny_recipe))
    path = built(tiny_recipe, tmp_path)
    assert not any(parity.passed for parity in verify(recipe=recipe, checkpoint="seeded:1", models=[path]))


def test_a_dead_checkpoint_proves_nothing(tiny_recipe: Path, tmp_path: Path):
    recipe = load_recipe(str(tiny_recipe))
    deployable, _ = build_deployable(recipe, CHECKPOINT)
    deployable.network.cls_head.fc_cls.weight.data.zero_()
    save_mmaction2(tmp_path / "dead.pth", deployable.network, {})
    path = built(tiny_recipe, tmp_path)
    with pytest.raises(CheckFailedError, match="same logits for two different inputs"):
        verify(recipe=recipe, checkpoint=str(tmp_path / "dead.pth"), models=[path])


def test_a_model_of_another_shape_or_no_model_is_refused(tiny_recipe: Path, tmp_path: Path):
    path = built(tiny_recipe, tmp_path)
    one_crop = load_recipe(str(tiny_recipe), ["views.crop=center"])
    with pytest.raises(BadDataError, match=r"\(24, 3, 32, 32\).*\(8, 3, 32, 32\)"):
        verify(recipe=one_crop, checkpoint=CHECKPOINT, models=[path])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadDataError, match="not an ONNX model"):
        verify(recipe=one_crop, checkpoint=CHECKPOINT, models=[path])


def test_flips_are_told_with_their_margin_and_judged_by_it():
    truth = np.array([[0.40, 0.41, 0.19], [0.5, 0.3, 0.2]])
    near = np.array([[0.410004, 0.409996, 0.18], [0.5, 0.3, 0.2]])
    kept = {"batch_size": 1, "logits": (truth, truth), "tolerance": Tolerance()}
    parity = compare("x", rows=(truth, near), **kept)
    assert not parity.passed
    ((sample, best, margin),) = parity.flips
    assert (sample, best) == (0, 1)
    assert margin == pytest.approx(0.01)
    assert "top-1 was 1" in render([parity])

    close = np.array([[0.40999, 0.41001, 0.18]])
    swapped = close[:, [1, 0, 2]]
    assert compare("x", rows=(close, swapped), **kept).passed


def test_nan_and_a_wrong_shape_never_pass():
    rows = np.full((1, 3), 1 / 3)
    for candidate in (np.array([[np.nan, 0.5, 0.5]]), np.full((1, 4), 0.25)):
        parity = compare(
            "x", batch_size=1, logits=(rows, rows), rows=(rows, candidate), tolerance=Tolerance()
        )
        assert not parity.passed
