"""The CANN engine over a stub of onnxruntime-cann: no NPU, no CANN and no wheel of onnxruntime-cann was run."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from cann_machine import set_up_cann
from evaluation_cases import run_evaluation, sum_model, write_list, write_recipe
from onnx_models import WEIGHTS, linear, rows_of, two_inputs, two_outputs, write_rows
from run_infer import run_infer
from stub_programs import program

from infer.__main__ import main
from infer.engines.cann.cann_engine import CannEngine
from infer.engines.engine_options import CannOptions, OnnxRuntimeOptions
from infer.engines.open import open_engine
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError, UserError
from vidom.formats.engine_outputs import read_summary


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stub's log; the current folder is an empty one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return set_up_cann(tmp_path, monkeypatch)


def opened(path: Path, **options: int) -> CannEngine:
    return CannEngine(path, CannOptions(), **options)


def test_it_computes_what_the_model_says(tmp_path: Path, log: Path):
    rows = rows_of(2)
    (y,) = opened(linear(tmp_path / "m.onnx", 2)).run([rows])
    np.testing.assert_allclose(y, rows @ WEIGHTS, rtol=1e-6)
    twice, best = opened(two_outputs(tmp_path / "two.onnx", 2)).run([rows])
    assert (twice == 2 * rows).all() and best.dtype == np.int64 and (best == rows.argmax(1)).all()
    numbers = np.arange(4, dtype=np.int32).reshape(2, 2)
    (y,) = opened(two_inputs(tmp_path / "pair.onnx", 2)).run([rows, numbers])
    np.testing.assert_allclose(y, rows + numbers.sum(1, keepdims=True), rtol=1e-6)


def test_the_files_are_those_of_onnx_runtime(tmp_path: Path, log: Path):
    folder, model = write_rows(tmp_path / "in", rows_of(5)), linear(tmp_path / "m.onnx", 2)
    for engine in (CannOptions(), OnnxRuntimeOptions()):
        run_infer(
            model=model, input=folder, output=tmp_path / engine.name, output_dirname="run", engine=engine,
            say=lambda _: None,
        )  # fmt: skip
    written = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name / "run").iterdir()}
        for name in ("cann", "onnxruntime")
    }
    assert written["cann"] == written["onnxruntime"] and len(written["cann"]) == 5
    _, document = read_summary(tmp_path / "cann" / "run_summary.json")
    facts = document["vidom"]
    assert (facts["engine"], facts["engine_version"], facts["device"]) == (
        "cann", "1.24.4", "CANN 0 (ONNX Runtime)",
    )  # fmt: skip
    assert facts["providers"] == {"CANNExecutionProvider": 1}


def test_an_evaluation_is_that_of_onnx_runtime(tmp_path: Path, log: Path):
    write_recipe(tmp_path)
    model, listed = sum_model(tmp_path / "m.onnx", 2), write_list(tmp_path / "list.txt", 5)
    metrics = {
        engine: run_evaluation(tmp_path / engine, model, listed, engine=engine).metrics_path.read_bytes()
        for engine in ("cann", "onnxruntime")
    }
    assert metrics["cann"] == metrics["onnxruntime"]
    assert log.read_text().count("run\n") == 1 + 3  # one that builds the graph, three batches
    with pytest.raises(UsageError, match="--engine cann does not go with --ray"):
        run_evaluation(tmp_path / "on_ray", model, listed, engine="cann", ray="local")


def test_the_graph_is_built_before_the_clock_and_nothing_is_written_here(tmp_path: Path, log: Path):
    model = linear(tmp_path / "m.onnx", 1)
    words = ["--engine", "cann", "--device", "3", "--precision_mode", "force_fp32"]
    main(["--model", str(model), *words, "--loop", "2", "--warmup_count", "0"])
    session, *runs = log.read_text().splitlines()
    assert session == (
        "session [('device_id', '3'), ('dump_om_model', '0'), ('enable_cann_graph', '1'), "
        "('precision_mode', 'force_fp32')]"
    )
    assert runs == ["build", "run", "run", "run"]
    assert list(Path.cwd().iterdir()) == []


def test_a_symbolic_batch_is_set(tmp_path: Path, log: Path):
    model = linear(tmp_path / "m.onnx", "N")
    engine = opened(model, batch_size=3)
    assert engine.dynamic_batch and engine.inputs[0].shape == (3, 4)
    with pytest.raises(UsageError, match="batch axis"):
        opened(model)
    with pytest.raises(UsageError, match="takes float32 of shape 3×4"):
        engine.run([rows_of(2)])


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("silent", UnavailableError, "the session was created with CPUExecutionProvider"),
        ("old", UnavailableError, 'lacks an option of CANNExecutionProvider.*"dump_om_model"'),
        ("numpy2", UnavailableError, r"onnxruntime-cann \"numpy<2\".*CANN_PYTHON=.*compiled against numpy 1"),
        ("faulty", ExternalToolError, "CANNExecutionProvider fails while it runs .*507011"),
        ("dies", ExternalToolError, "ended with code 9 at the step `execute` .*EZ9999: inner error"),
    ],
)
def test_what_fails_is_named(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, state: str, kind: type[UserError], words: str
):
    monkeypatch.setenv("STUB_CANN", state)
    with pytest.raises(kind, match=words):
        opened(linear(tmp_path / "m.onnx", 1))


def test_without_cann_the_absent_libraries_are_named(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUB_CANN", "absent")
    (tmp_path / "lib" / "libascendcl.so").unlink()
    with pytest.raises(UnavailableError, match=r"set_env\.sh  \(not found: libascendcl\.so\)") as refused:
        opened(linear(tmp_path / "m.onnx", 1))
    assert refused.value.exit_code == 3


def test_an_interpreter_without_the_provider_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CANN_PYTHON", raising=False)
    with pytest.raises(UnavailableError, match="its onnxruntime has .*CPUExecutionProvider only"):
        open_engine(linear(tmp_path / "m.onnx", 1), CannOptions())
    monkeypatch.setenv("CANN_PYTHON", str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="is not an executable program"):
        open_engine(tmp_path / "m.onnx", CannOptions())


@pytest.mark.parametrize("body", ["exec cat", "exec yes", "exit 0", "echo '[1]'; exec cat"])
def test_what_is_no_python_is_a_failed_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str):
    monkeypatch.setenv("CANN_PYTHON", str(program(tmp_path / "odd", body)))
    with pytest.raises(ExternalToolError, match="Is CANN_PYTHON a Python"):
        opened(linear(tmp_path / "m.onnx", 1))


def test_a_model_that_is_none_is_bad_data(tmp_path: Path, log: Path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(BadDataError):
        opened(tmp_path / "m.onnx")
    assert not log.exists()


def test_its_process_ends_with_the_engine_and_its_folder_goes(tmp_path: Path, log: Path):
    engine = opened(linear(tmp_path / "m.onnx", 1))
    process = engine._process._process
    folder = Path(f"/proc/{process.pid}/cwd").readlink()
    assert (folder / "fusion_result.json").is_file()
    del engine
    assert process.poll() == -signal.SIGKILL and not folder.exists()


def test_its_folder_goes_also_where_this_process_is_killed(tmp_path: Path, log: Path):
    engine = opened(linear(tmp_path / "m.onnx", 1))
    process = engine._process._process
    folder = Path(f"/proc/{process.pid}/cwd").readlink()
    assert process.stdin
    process.stdin.close()  # as the kernel does then
    assert process.wait() == 0 and not folder.exists()
