"""Lint as a command, and on networks without planted faults."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from lint_graphs import model_file
from surgery_graphs import shift_graph, skeleton, torch_graph
from torch import nn

from export.lint.linter import lint
from export.lint.subject import read_subject
from export.lint_onnx import main
from export.surgery.model_file import model_bytes
from export.surgery.pass_manager import run_passes
from networks.tsm import TSM

SKELETONS = Path(__file__).parents[1] / "fixtures" / "onnx_skeletons"
RELU = "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"


def saved(model: ir.Model, folder: Path) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(model_bytes(model))
    return path


def errors(path: Path) -> list[str]:
    return [str(finding) for finding in lint(read_subject(path)) if finding.severity == "error"]


@pytest.mark.slow
def test_our_export_has_no_findings_after_surgery(tmp_path: Path) -> None:
    network = TSM(depth=18, num_classes=5, num_segments=4)
    clips = nn.Sequential(network, nn.Softmax(dim=-1))
    model = run_passes(torch_graph(clips, 2, 4, 3, 32, 32)).model
    assert lint(read_subject(saved(model, tmp_path))) == ()


def test_surgery_removes_the_cause_of_lint_warnings(tmp_path: Path) -> None:
    naive = shift_graph(batch=2, views=2, segments=4, channels=8, classes=5)
    before = {finding.rule for finding in lint(read_subject(saved(naive, tmp_path)))}
    assert "slice-chain" in before
    assert lint(read_subject(saved(run_passes(naive).model, tmp_path))) == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["i3d_k400_bs1_torch1.9", "tsm_sthv2_bs1_torch1.9"])
def test_published_networks_have_no_errors(name: str, tmp_path: Path) -> None:
    assert errors(saved(skeleton(SKELETONS / f"{name}.skeleton.onnx"), tmp_path)) == []


def test_auto_pad_is_reported_in_a_three_dimensional_network(tmp_path: Path) -> None:
    model = torch_graph(nn.Conv3d(3, 2, 3, padding=1), 1, 3, 4, 8, 8)
    path = saved(model, tmp_path)
    assert errors(path) == []
    (conv,) = (node for node in model.graph if node.op_type == "Conv")
    conv.attributes.pop("pads")
    conv.attributes["auto_pad"] = ir.AttrString("auto_pad", "SAME_UPPER")
    (finding,) = errors(saved(model, tmp_path))
    assert "3-D convolution" in finding


def test_weights_do_not_count_as_inputs(tmp_path: Path) -> None:
    with torch.no_grad():
        model = torch_graph(nn.Linear(3, 2), 1, 3, keep_initializers_as_inputs=True)
    assert lint(read_subject(saved(model, tmp_path))) == ()


def test_the_command_prints_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = model_file(tmp_path, RELU)
    assert main(["--model", str(clean)]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"
    planted = model_file(tmp_path, RELU, opset=19, domains=', "ai.onnx.ml": 2')
    assert main(["--model", str(planted), "--cann", "8.0"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[:-1]] == [["error", "opset:"], ["error", "one-domain:"]]
    assert printed[-1] == "2 errors, 0 warnings"


def test_the_command_takes_batches(tmp_path: Path) -> None:
    free = model_file(tmp_path, RELU.replace("2,3", "n,3"))
    assert main(["--model", str(free)]) == 1
    assert main(["--model", str(free), "--batch-size", "4"]) == 0
    assert main(["--model", str(free), "--dynamic_batch_size", "1,4"]) == 0


def test_the_list_shows_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[1] in ("error", "warning") for line in lines)
    assert any(line.startswith("conv-padding") and "SRC" in line for line in lines)
