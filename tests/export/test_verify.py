from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.build_record import read_record
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.pass_types import Target
from export.to_onnx import ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, main, verify
from networks.checkpoints.checkpoint import save_mmaction2
from networks.deployable import build_deployable
from vidom.errors import BadDataError, CheckFailedError
from vidom.formats.recipe import load_recipe

CHECKPOINT = "seeded:0"


def built(tiny_recipe: Path, folder: Path, **options: object) -> Path:
    recipe = load_recipe(str(tiny_recipe))
    return to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=folder / "m.onnx", **options))


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


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"batch_size": 3}, {"dynamic_batch": True}, {"input_dtype": "uint8"}])
def test_a_correct_export_passes_at_several_batch_sizes_and_is_recorded(
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


@pytest.mark.slow
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
    parities = verify(
        VerifyOptions(recipe=load_recipe(str(tiny_recipe)), checkpoint=CHECKPOINT, model=(path,))
    )
    assert {parity.batch_size for parity in parities} == sizes
    logged = capsys.readouterr().err
    assert ("too much memory" in logged) == bool(left_out)
    assert f"batch size {left_out}" in logged + "batch size "


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "ascend310p"])
def test_an_optimized_model_is_rebuilt_at_other_batch_sizes_if_its_source_is_next_to_it(
    target: Target, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    exported, optimized = built(tiny_recipe, tmp_path, batch_size=3), tmp_path / "m_new.onnx"
    modify_onnx(ModifyOnnxOptions(model=exported, output=optimized, batch_size=3, target=target))
    recipe = load_recipe(str(tiny_recipe))
    found = {}
    for source_exists in (True, False):
        parities = verify(VerifyOptions(recipe=recipe, checkpoint=CHECKPOINT, model=(optimized,)))
        assert all(parity.passed for parity in parities)
        found[source_exists] = {parity.batch_size for parity in parities}
        exported.unlink(missing_ok=True)
    assert found == {True: {1, 2, 3}, False: {3}}
    assert "at batch size 3 only" in capsys.readouterr().err


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


@pytest.mark.slow
def test_a_different_checkpoint_fails(tiny_recipe: Path, tmp_path: Path):
    recipe = load_recipe(str(tiny_recipe))
    path = built(tiny_recipe, tmp_path)
    assert not any(
        parity.passed for parity in verify(VerifyOptions(recipe=recipe, checkpoint="seeded:1", model=(path,)))
    )


def test_a_checkpoint_whose_outputs_ignore_the_input_is_rejected(tiny_recipe: Path, tmp_path: Path):
    recipe = load_recipe(str(tiny_recipe))
    deployable, _ = build_deployable(recipe, CHECKPOINT)
    deployable.network.cls_head.fc_cls.weight.data.zero_()
    save_mmaction2(tmp_path / "dead.pth", deployable.network, {})
    path = built(tiny_recipe, tmp_path)
    with pytest.raises(CheckFailedError, match="same logits for two different inputs"):
        verify(VerifyOptions(recipe=recipe, checkpoint=str(tmp_path / "dead.pth"), model=(path,)))


def test_a_model_of_a_different_shape_and_a_damaged_one_are_rejected(tiny_recipe: Path, tmp_path: Path):
    path = built(tiny_recipe, tmp_path)
    one_crop = load_recipe(str(tiny_recipe), ["views.crop=center"])
    with pytest.raises(BadDataError, match=r"\(24, 3, 32, 32\).*\(8, 3, 32, 32\)"):
        verify(VerifyOptions(recipe=one_crop, checkpoint=CHECKPOINT, model=(path,)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadDataError, match="not an ONNX model"):
        verify(VerifyOptions(recipe=one_crop, checkpoint=CHECKPOINT, model=(path,)))


def reverse_rows(path: Path) -> None:
    """Make the model return the rows of a batch in reverse order, whatever the batch size."""
    model = onnx.load(path)
    nodes = model.graph.node
    (place,) = (place for place, node in enumerate(nodes) if node.op_type == "Softmax")
    bounds = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": 0, "steps": -1}
    for name, number in bounds.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([number], dtype=np.int64), name))
    nodes.insert(place, onnx.helper.make_node("Slice", [nodes[place].input[0], *bounds], ["reversed"]))
    nodes[place + 1].input[0] = "reversed"
    onnx.save(model, path)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 3])
def test_rows_swapped_inside_a_batch_are_detected(batch_size: int, tiny_recipe: Path, tmp_path: Path):
    path = built(tiny_recipe, tmp_path, batch_size=batch_size)
    reverse_rows(path)
    recipe = load_recipe(str(tiny_recipe))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=CHECKPOINT, model=(path,)))
    assert {parity.batch_size: parity.passed for parity in parities} == {1: True, 2: False, batch_size: False}
    assert {parity.batch_size: parity.samples for parity in parities} == {1: 2, 2: 2, batch_size: batch_size}


def test_a_float16_model_is_judged_by_the_tolerance_of_float16(tiny_recipe: Path, tmp_path: Path):
    path = built(tiny_recipe, tmp_path, batch_size=2)
    converted = onnx.load(path)
    for weight in converted.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            name, half = weight.name, numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            cast = onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
            converted.graph.node.insert(0, cast)
    onnx.save(converted, path)
    recipe = load_recipe(str(tiny_recipe))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=CHECKPOINT, model=(path,)))
    assert all(parity.passed and parity.number_format == "float16" for parity in parities)
    assert {parity.batch_size: parity.samples for parity in parities} == {1: 2, 2: 2}
    assert max(parity.relative_logits or 0.0 for parity in parities) > 1e-4


def test_the_input_type_of_the_model_must_be_that_of_the_options(tiny_recipe: Path, tmp_path: Path):
    path = built(tiny_recipe, tmp_path, input_dtype="uint8")
    with pytest.raises(BadDataError, match="takes uint8 samples"):
        verify(VerifyOptions(recipe=load_recipe(str(tiny_recipe)), checkpoint=CHECKPOINT, model=(path,)))
