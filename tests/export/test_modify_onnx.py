"""The command: output, exit codes, rejected inputs and files on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from surgery_graphs import noise, ops, run, shift_graph

import export.surgery.pass_manager
from export.auto_optimizer.rules import REWRITE_RULES
from export.build_record import read_record
from export.modify_onnx import ModifyOnnxOptions, main, modify_onnx
from export.surgery.model_file import load_model
from export.surgery.pass_types import Options, Pass
from export.surgery.values import batch_of
from vidom.errors import BadDataError, UsageError, UserError
from vidom.files import sha256_file

REPOSITORY = Path(__file__).parents[2]
DIMS = {"views": 3, "segments": 4, "channels": 8, "classes": 5}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "tsm_bs2.onnx"
    ir.save(shift_graph(batch=2, **DIMS), path)
    return path


def rejection(error: type[UserError], model: Path, output: Path, *options: str) -> str:
    with pytest.raises(error) as raised:
        main(["-m1", str(model), "-m2", str(output), *options])
    assert not output.exists()
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.slow
def test_the_published_command_line(exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "tsm_new_bs8.onnx"
    command = [sys.executable, "export/modify_onnx.py", "-m1", str(exported), "-m2", str(output), "-bs", "8"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["operator", "before", "after", "change"]
    assert any(line.split() == ["Sub", "2", "0", "-2"] for line in lines)
    assert any(line.split()[:5] == ["output", "y", "8", "8", "float32"] for line in lines)
    assert lines[-1] == "PASSED"
    samples = noise(8, 12, 8, 4)
    original = load_model(exported)
    clips = np.concatenate([run(original, samples[start : start + 2])[0] for start in range(0, 8, 2)])
    logits = np.log(clips.reshape(8, 3, 5).astype(np.float64)).mean(axis=1)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(load_model(output), samples)[0], expected, atol=1e-6)


def test_both_spellings_and_the_long_names(exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    words = [
        "--model",
        str(exported),
        "--output",
        str(output),
        "--batch-size",
        "3",
        "--average-clips",
        "prob",
    ]
    assert main(words) == 0
    samples = noise(3, 12, 8, 4)
    clips = run(load_model(exported), samples[:2])[0].reshape(2, 3, 5)
    np.testing.assert_allclose(run(load_model(output), samples)[0][:2], clips.mean(axis=1), atol=1e-6)


def test_chosen_passes_only(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.onnx"
    assert (
        main(["-m1", str(exported), "-m2", str(output), "--passes", "merge-slices,constant-fold-zeros"]) == 0
    )
    modified = load_model(output)
    assert "Sub" not in ops(modified)
    assert tuple(modified.graph.outputs[0].shape or ()) == (6, 5)
    assert "passes that changed something: constant-fold-zeros, merge-slices" in capsys.readouterr().out


def test_the_list_names_every_pass_and_rewrite_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--list"])
    assert ended.value.code == 0
    passes, rules = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in passes.splitlines()] == [
        item.name for item in export.surgery.pass_manager.PASSES
    ]
    heading, *lines = rules.splitlines()
    assert heading == "--with auto-optimizer"
    assert [line.split()[0] for line in lines] == [item.name for item in REWRITE_RULES]


def test_the_list_shows_the_targets_of_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--list"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["time-major"].split()[1:3] == ["ascend310p", "cpu"]
    assert lines["split-shift"].split()[1:3] == ["cpu", "keep"]


def test_a_different_target_makes_a_model_stale(exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=4))
    assert read_record(output)["made_from"]["target"] == "ascend310p"
    assert main(["-m1", str(exported), "-m2", str(output), "-bs", "4", "--target", "cpu"]) == 0
    assert read_record(output)["made_from"]["target"] == "cpu"


def test_files_are_needed() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-m1", "only.onnx"])
    assert ended.value.code == 2


def spoil(model: ir.Model, options: Options) -> bool:
    weights = model.graph.initializers["w"]
    tensor = weights.const_value
    if tensor is not None:
        weights.const_value = ir.tensor(tensor.numpy() * np.float32(1.01), name="w")
    return True


def test_a_graph_that_computes_something_else_fails_and_is_not_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        export.surgery.pass_manager, "PASSES", (*export.surgery.pass_manager.PASSES, Pass("spoil", "", spoil))
    )
    output = tmp_path / "out.onnx"
    output.write_bytes(b"of an earlier run")
    assert main(["-m1", str(exported), "-m2", str(output)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
    assert sorted(path.name for path in tmp_path.iterdir()) == [exported.name]


def test_the_same_bytes_twice(exported: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        modify_onnx(ModifyOnnxOptions(model=exported, output=tmp_path / name, batch_size=4))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_steps_are_recorded_next_to_the_model(exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    done = modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=4))
    entry = read_record(output)
    assert entry["sha256"] == sha256_file(output)
    assert entry["made_from"]["model_sha256"] == sha256_file(exported)
    assert entry["surgery"]["census_before"]["Sub"] == 2
    assert "Sub" not in entry["surgery"]["census_after"]
    assert modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=4)) == done


def test_a_model_that_is_up_to_date_is_kept_and_a_stale_one_rebuilt(exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=4))
    written = output.stat().st_mtime_ns
    modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=4))
    assert output.stat().st_mtime_ns == written
    modify_onnx(ModifyOnnxOptions(model=exported, output=output, batch_size=5))
    assert batch_of(load_model(output)) == 5


def test_a_batch_larger_than_the_number_of_distinct_samples(exported: Path, tmp_path: Path) -> None:
    done = modify_onnx(ModifyOnnxOptions(model=exported, output=tmp_path / "out.onnx", batch_size=11))
    assert done.passed
    assert {(item.samples, item.rows) for item in done.parities} == {(8, 22)}


def test_uint8_input_is_compared_on_pixels(tmp_path: Path) -> None:
    text = """<ir_version: 6, opset_import: ["" : 11]>
    g (uint8[1,6] x) => (float[1,6] y) { z = Cast<to = 1>(x) n = Sub(z, z) m = Add(z, n) y = Softmax<axis = 1>(m) }"""
    path, output = tmp_path / "pixels.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    done = modify_onnx(ModifyOnnxOptions(model=path, output=output, batch_size=4))
    assert done.passed
    assert "Sub" not in ops(load_model(output))


# rejected inputs


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x06"])
def test_files_that_are_not_models_are_rejected(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    assert "is not an ONNX model" in rejection(BadDataError, path, tmp_path / "out.onnx")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_truncated_model(share: float, exported: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    exported.write_bytes(content[: int(len(content) * share)])
    assert "tsm_bs2.onnx is not" in rejection(BadDataError, exported, tmp_path / "out.onnx")


def test_a_missing_model(tmp_path: Path) -> None:
    assert "There is no ONNX model" in rejection(UsageError, tmp_path / "none.onnx", tmp_path / "out.onnx")


def test_a_misspelt_pass(exported: Path, tmp_path: Path) -> None:
    found = rejection(UsageError, exported, tmp_path / "out.onnx", "--passes", "zero_blank")
    assert "Did you mean constant-fold-zeros?" in found


def test_the_same_path_for_both_files(exported: Path) -> None:
    content = exported.read_bytes()
    with pytest.raises(UsageError, match="both name"):
        main(["-m1", str(exported), "-m2", str(exported)])
    assert exported.read_bytes() == content


def test_a_hard_coded_batch_size(tmp_path: Path) -> None:
    text = """<ir_version: 6, opset_import: ["" : 11]>
    g (float[2,3] x) => (float[2,3] y) <float[2,3] w = {1,2,3,4,5,6}> { y = Add(x, w) }"""
    path = tmp_path / "baked.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    found = rejection(BadDataError, path, tmp_path / "out.onnx", "-bs", "8")
    assert found.startswith("Batch size 8 cannot be set")
    assert "y (Add)" in found


def external(folder: Path, location: str) -> Path:
    """Return the path of a model whose weights are declared to be at `location`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [tensor],
    )
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "location", ["../secret.bin", "sub/../../secret.bin", "/etc/hostname", "..\\secret.bin", "link.bin"]
)
def test_weights_outside_the_models_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(np.ones(3, dtype=np.float32).tobytes())
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert "outside its own folder" in rejection(
        BadDataError, external(folder, location), tmp_path / "out.onnx"
    )


def test_weights_next_to_the_model_are_included(tmp_path: Path) -> None:
    weights = np.arange(3, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(weights.tobytes())
    output = tmp_path / "new" / "out.onnx"
    assert modify_onnx(ModifyOnnxOptions(model=external(tmp_path, "weights.bin"), output=output)).passed
    (stored,) = onnx.load(output).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored), weights)


@pytest.mark.parametrize("size", [None, 8])
def test_weights_next_to_the_model_that_are_missing_or_truncated(size: int | None, tmp_path: Path) -> None:
    if size is not None:
        (tmp_path / "weights.bin").write_bytes(bytes(size))
    found = rejection(BadDataError, external(tmp_path, "weights.bin"), tmp_path / "out.onnx")
    assert "model.onnx" in found
