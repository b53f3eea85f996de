from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from onnx_models import linear, rows_of, write_rows
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from run_infer import run_infer

from infer.engines.engine_options import OnnxRuntimeOptions
from infer.engines.onnxruntime import OnnxRuntimeEngine
from infer.engines.providers import CPU, check_used, installed_provider, provider_options
from vidom.errors import ExternalToolError, UnavailableError, UsageError
from vidom.formats.engine_outputs import read_summary


@pytest.mark.parametrize("name", ["CPU", "cpu", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_has_a_short_and_a_long_name(name: str):
    assert installed_provider(name, ["AzureExecutionProvider", CPU]) == CPU


def test_one_that_is_not_installed_is_refused_with_a_list_of_those_that_are():
    with pytest.raises(UnavailableError, match=r"--provider NoSuch is not in the installed onnxruntime.*CPU"):
        installed_provider("NoSuch", [CPU])
    with pytest.raises(UnavailableError, match="--engine cann runs it"):
        installed_provider("CANN", [CPU])


def test_any_installed_provider_may_be_named():
    assert installed_provider("new", ["NewExecutionProvider", CPU]) == "NewExecutionProvider"


def test_the_device_number_is_passed_to_the_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert provider_options("CUDAExecutionProvider", 0) == {"device_id": "0"}
    assert provider_options(CPU, 3) == provider_options("NewExecutionProvider", 0) == {}
    with pytest.raises(UsageError, match="the provider New has no numbered devices"):
        provider_options("NewExecutionProvider", 1)
    asked: list[object] = []

    def session(*_arguments: object, providers: list[object], **_options: object) -> None:
        asked.extend(providers)
        raise ort_errors.EPFail("no driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(UnavailableError, match="CUDAExecutionProvider could not start"):
        OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 1), OnnxRuntimeOptions(provider="cuda", device=2))
    assert asked == [("CUDAExecutionProvider", {"device_id": "2"})]


def test_a_provider_without_its_libraries_is_lacking_and_one_that_fails_is_no_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = linear(tmp_path / "m.onnx", 1)
    real, cann = onnxruntime.InferenceSession, "CANNExecutionProvider"
    asked: list[object] = []

    def absent(*_arguments: object, providers: list[object], **_options: object) -> None:
        asked.extend(providers)
        raise RuntimeError("libascendcl.so: cannot open shared object file")

    class Faulty:
        def __init__(self, path: str, options: object, **_options: object) -> None:
            self.real = real(path, options, providers=[CPU])

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def get_providers(self) -> list[str]:
            return [cann, CPU]

        def get_provider_graph_assignment_info(self) -> list[object]:
            return []

        def run_with_ort_values(self, *_arguments: object) -> None:
            raise ort_errors.Fail("CANN error executing aclmdlExecute: 507011")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cann, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", absent)
    with pytest.raises(UnavailableError, match="CANNExecutionProvider could not start .libascendcl"):
        OnnxRuntimeEngine(model, OnnxRuntimeOptions(provider="CANN", device=1))
    assert asked == [(cann, {"device_id": "1", "enable_cann_graph": "1", "dump_om_model": "0"})]
    monkeypatch.setattr(onnxruntime, "InferenceSession", Faulty)
    engine = OnnxRuntimeEngine(model, OnnxRuntimeOptions(provider="CANN"))
    with pytest.raises(ExternalToolError, match="CANNExecutionProvider fails while it runs .*507011"):
        engine.run([rows_of(1)])


def test_the_summary_names_the_provider_and_its_nodes(tmp_path: Path):
    run_infer(
        model=linear(tmp_path / "m.onnx", 1),
        input=write_rows(tmp_path / "in", rows_of(2)),
        output=tmp_path / "out",
        output_dirname="run",
        engine=OnnxRuntimeOptions(provider="cpu"),
        say=lambda _: None,
    )
    _, document = read_summary(tmp_path / "out" / "run_summary.json")
    assert document["vidom"]["device"] == "CPU (ONNX Runtime)" and document["vidom"]["providers"] == {CPU: 1}


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime has no provider that takes no nodes",
)
def test_a_provider_that_leaves_all_nodes_to_the_cpu_is_refused(tmp_path: Path):
    with pytest.raises(
        UnavailableError,
        match=r"AzureExecutionProvider would not run .*none of the graph's nodes are assigned to it \(1 by CPU",
    ):
        OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 1), OnnxRuntimeOptions(provider="azure"))


def test_a_silent_fallback_to_the_cpu_is_refused():
    with pytest.raises(
        UnavailableError, match=r"XExecutionProvider would not run m\.onnx: the session was created with CPU"
    ):
        check_used([CPU], {}, "XExecutionProvider", Path("m.onnx"))
    check_used([CPU], {}, CPU, Path("m.onnx"))  # an older ONNX Runtime, which does not report the assignment
