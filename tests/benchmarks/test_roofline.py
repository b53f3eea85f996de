"""The roofline: its numbers follow from times and costs, checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.roofline import machine_peaks
from benchmarks.roofline.__main__ import RooflineOptions, main
from benchmarks.roofline.machine_peaks import Kernel, kernels, peaks
from benchmarks.roofline.operator_costs import OpCost
from benchmarks.roofline.published_devices import theoretical_tables
from benchmarks.roofline.tables import MeasuredRun, roofline_report
from vidom.errors import UnavailableError, UsageError
from vidom.formats.recipe import load_recipe

GB = 10**9


@pytest.fixture
def small_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_peaks, "_GEMMS", (("torch", 64), ("numpy", 48)))


def test_kernels_compute_what_they_count(small_kernels: None) -> None:
    product, other, copy, triad = kernels(threads=1, array_bytes=4000, memory_bytes=16000)
    assert (product.flops, other.flops) == (2 * 64**3, 2 * 48**3)
    assert (copy.moved_bytes, triad.moved_bytes) == (2 * 4000, 3 * 4000)
    assert triad.work().tolist() == [4.0] * 1000
    assert copy.work().tolist() == [1.0] * 1000
    for kernel in (product, other):
        left, right = (argument for argument in kernel.work.args)
        assert abs(kernel.work() - left @ right).max() < 1e-3
    with pytest.raises(UnavailableError, match="--array_gb"):
        kernels(threads=1, array_bytes=4000, memory_bytes=15999)


def measured(**changes: object) -> MeasuredRun:
    """8 GFLOP in 2 s on a machine of 16 GFLOP/s and 4 GB/s."""
    costs = (
        OpCost("a", "Conv 3×3", 3 * GB, GB, GB),  # 6 GFLOP, 2 GB: 0.375 s of arithmetic, 0.5 of memory
        OpCost("b", "Conv 3×3", GB, 0, 4000),  # 0.125 s of arithmetic
        OpCost("c", "elementwise", 0, GB, GB),
        OpCost("d", "free", 0, 0, 0),
    )
    ran = (
        Kernel("slow", print, flops=GB),
        Kernel("gemm", print, flops=4 * GB),
        Kernel("copy", print, moved_bytes=GB),
    )
    fields = {
        "recipe": load_recipe("tsm_sthv2"), "batch": 1, "costs": costs, "exported": costs, "seconds": 2.0,
        "nodes": {"Conv": 3.0, "Add": 1.0}, "ran": ran, "rounds": 1,
        "kernel_seconds": {"slow": 1.0, "gemm": 0.25, "copy": 0.25},
    }  # fmt: skip
    return MeasuredRun(**(fields | changes))


def test_shares_and_floors() -> None:
    run = measured()
    assert run.peaks == peaks(run.ran, run.kernel_seconds)
    assert (run.peaks.flops, run.peaks.gemm) == (16 * GB, "gemm")
    assert (run.peaks.bandwidth, run.peaks.stream) == (4 * GB, "copy")
    _, costs, ran, nodes, _ = roofline_report(run).tables
    conv, elementwise = costs.rows
    assert conv[:3] == ("Conv 3×3", 2, 4.0) and conv[3] == pytest.approx(2.0, rel=1e-5)
    # Together 0.5 s either variant, but the first waits for memory while the second computes: no overlap between them.
    assert conv[6] == pytest.approx(0.5 + 0.125)
    assert (elementwise[5], elementwise[6]) == ("memory", 0.5)
    shares = [row[2] for row in ran.rows]
    assert shares == [None, "25.0%", "25.0%", "50.0%", "31.2% of the run"]
    assert [row[2] for row in nodes.rows] == ["75.0%", "25.0%"]


def test_published_speeds_theoretical_tables() -> None:
    """20.77 samples a second of 48 frames of ResNet-50 at 256 × 256, which are 5.34 G multiply-adds each."""
    costs = (
        OpCost("", "Conv 1×1", 2 * 256 * GB, 3 * GB, 5 * GB),
        OpCost("", "elementwise", 0, 2 * GB, 2 * GB),
    )
    (table,) = theoretical_tables(load_recipe("tsm_sthv2"), costs, samples=2)
    batch, fps, teraflops, share, bandwidth = table.rows[0]
    assert (batch, fps) == (1, 20.77)
    assert teraflops == pytest.approx(20.77 * 512 / 1000)
    assert share == "15.2%"
    # Of 8 GB in float32 for two samples, 2 GB in float16 for one: 41.5 of 204.8 GB/s; of all, 3 GB.
    assert bandwidth == "20% – 30%"
    assert "not measured here" in table.title and "Huawei" in table.note
    assert theoretical_tables(load_recipe("tsm_demo"), costs, samples=1) == ()


@pytest.mark.slow
def test_the_command_measures_a_small_network(
    tiny_recipe: Path, tmp_path: Path, small_kernels: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", str(tiny_recipe), "--rounds", "1", "--array_gb", "0.001"]
    assert main([*words, "--output_dir", str(tmp_path), "--batch_size", "2"]) == 0
    assert capsys.readouterr().out == (tmp_path / "roofline.md").read_text()
    document = json.loads((tmp_path / "roofline.json").read_text())
    kernels, _, ran, nodes = document["tables"]
    assert [row[0] for row in kernels["rows"]] == [
        "torch, 64 × 64", "numpy, 48 × 48", "copy, a = b", "triad, a = b + 3 c",
    ]  # fmt: skip
    assert ran["rows"][0][1] > 0
    assert "Conv" in {row[0] for row in nodes["rows"]}
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_options_are_rejected() -> None:
    with pytest.raises(UsageError, match="--batch_size"):
        RooflineOptions(recipe="tsm_demo", batch_size=0)
    with pytest.raises(UsageError, match="--array_gb"):
        RooflineOptions(array_gb=0)
