from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from onnx_models import linear, rows_of, write_rows

from infer.engines.onnxruntime import OnnxRuntimeEngine
from infer.engines.providers import CPU, check_used, installed_provider
from infer.inference import infer
from vidom.errors import UnavailableError
from vidom.formats.engine_outputs import read_summary


@pytest.mark.parametrize("name", ["CPU", "cpu", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_has_a_short_and_a_long_name(name: str):
    assert installed_provider(name) == CPU


def test_one_that_is_not_installed_is_told_with_those_that_are():
    with pytest.raises(UnavailableError, match=r"--provider NoSuch is not in this onnxruntime .*CPU"):
        installed_provider("NoSuch")


def test_any_installed_provider_may_be_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["NewExecutionProvider", CPU])
    assert installed_provider("new") == "NewExecutionProvider"


def test_the_summary_names_the_provider_and_its_nodes(tmp_path: Path):
    infer(
        model=linear(tmp_path / "m.onnx", 1),
        input=write_rows(tmp_path / "in", rows_of(2)),
        output=tmp_path / "out",
        output_dirname="run",
        provider="cpu",
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
        UnavailableError, match=r"AzureExecutionProvider would not run .*none of the graph's nodes \(1 by CPU"
    ):
        OnnxRuntimeEngine(linear(tmp_path / "m.onnx", 1), provider="azure")


class Session:
    """A session as ONNX Runtime leaves it when a provider's libraries could not be loaded."""

    def get_providers(self) -> list[str]:
        return [CPU]


def test_a_silent_fallback_to_the_cpu_is_refused():
    with pytest.raises(
        UnavailableError, match=r"XExecutionProvider would not run m\.onnx: the session was made with CPU"
    ):
        check_used(Session(), "XExecutionProvider", Path("m.onnx"))
    check_used(
        Session(), CPU, Path("m.onnx")
    )  # an older ONNX Runtime, which does not tell whose nodes are whose
