"""The contract with ais_bench, tested with a stub of it: no NPU takes part and no number is a measurement."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import CLASSES, WEIGHTS, Bench
from onnx_models import rows_of
from run_infer import run_infer

from infer.batches.performance import InferenceResult
from infer.engines.engine_options import AscendOptions
from postprocess.score import ScoreOptions, score
from vidom.errors import UsageError
from vidom.formats.engine_outputs import read_output, read_summary


def run(bench: Bench, model: Path, *, devices: tuple[int, ...] = (0,), **options: object) -> InferenceResult:
    said = options.pop("say", lambda _: None)
    chosen = {"input": "./in", "output": "./out", "output_dirname": "run", "outfmt": "NPY", **options}
    return run_infer(model=Path(model.name), engine=AscendOptions(devices=devices), say=said, **chosen)


def rows_by_input(summary: Path) -> dict[str, np.ndarray]:
    entries, _ = read_summary(summary)
    return {entry.infiles[0]: read_output(entry.outfiles[0], classes=CLASSES) for entry in entries}


def check_rows(summary: Path, rows: np.ndarray, folder: str = "./in") -> None:
    """The summary names each input once, in order, and its output is that of the input."""
    found = rows_by_input(summary)
    assert list(found) == [f"{folder}/video_{number}.bin" for number in range(len(rows))]
    np.testing.assert_allclose(np.concatenate(list(found.values())), rows @ WEIGHTS, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("batch", "outfmt"), [(1, "TXT"), (2, "NPY"), (4, "BIN")])
def test_outputs_summary_facts_and_log_lie_where_they_belong(
    batch: int, outfmt: str, bench: Bench, capfd: pytest.CaptureFixture[str]
):
    rows = rows_of(5)
    bench.inputs(rows)
    said: list[str] = []
    result = run(bench, bench.model(batch), outfmt=outfmt, say=said.append)
    assert result.summary == Path("out/run_summary.json")
    check_rows(result.summary, rows)
    assert (result.samples, result.padded_rows, result.batch_size) == (5, -5 % batch, batch)
    facts = bench.facts()
    assert (facts["engine"], facts["devices"], facts["soc_version"]) == ("ascend", [0], None)
    assert (facts["samples"], facts["padded_rows"], facts["batch_size"]) == (5, -5 % batch, batch)
    assert facts["samples_per_second"] == pytest.approx(5 / facts["end_to_end_seconds"])
    assert "ais_bench 0.0.2" in facts["engine_version"]
    log = (bench.folder / "out" / "run_ais_bench.log").read_text()
    printed = [line for line in said if line in log.splitlines()]
    assert "[INFO] output path:./out/run" in printed and any("throughput" in line for line in printed)
    assert "Inference array Processing" in log and "Inference array Processing" in capfd.readouterr().err
    assert sorted(path.name for path in (bench.folder / "out").iterdir()) == [
        "run", "run_ais_bench.log", "run_summary.json", "run_vidom.json",
    ]  # fmt: skip


def test_the_command_is_that_of_the_published_guide_and_is_printed_first(
    bench: Bench, capfd: pytest.CaptureFixture[str]
):
    bench.inputs(rows_of(2))
    run(bench, bench.model(1), outfmt="TXT")
    shown = capfd.readouterr().err.splitlines()[0]
    words = (
        "-m ais_bench --model m.om --input ./in --output ./out --output_dirname run --outfmt TXT --device 0"
    )
    assert shown.endswith(words) and bench.facts()["commands"] == [shown]
    summary = json.loads((bench.folder / "out" / "run_summary.json").read_text())
    assert " ".join(summary["args"][1:]) == words.partition("ais_bench ")[2]
    run(bench, bench.model(1), loop=3, warmup_count=2, batchsize=1, debug=True, display_all_summary=True)
    shown = capfd.readouterr().err.splitlines()[0]
    for option in (
        "--loop 3",
        "--warmup_count 2",
        "--batchsize 1",
        "--debug true",
        "--display_all_summary true",
    ):
        assert option in shown


@pytest.mark.parametrize("name", ["bs1_TXT", "bs2_NPY", "bs2_BIN"])
def test_what_the_real_frontend_wrote_stays_byte_for_byte(name: str, bench: Bench, fixtures: Path):
    recorded = fixtures / "ais_bench"
    shutil.copytree(recorded / "in5", bench.folder / "in5")
    bench.behave("replay", recorded=recorded)
    rows = int(name[2])
    result = run(
        bench, bench.model(rows), input="./in5", output="./res", output_dirname=name, outfmt=name[4:]
    )
    assert (bench.folder / "res" / f"{name}_summary.json").read_bytes() == (
        recorded / "res" / f"{name}_summary.json"
    ).read_bytes()
    for path in (recorded / "res" / name).iterdir():
        assert (bench.folder / "res" / name / path.name).read_bytes() == path.read_bytes()
    document = json.loads((recorded / "res" / f"{name}_summary.json").read_text())
    assert result.throughput == document["throughput"]
    assert list(result.compute_ms) == document["npu_compute_time_list"]
    assert (result.samples, result.padded_rows, result.batch_size) == (5, -5 % rows, rows)


def test_the_pure_loop_reads_the_speed_that_is_printed_and_writes_nothing(bench: Bench):
    before = sorted(bench.folder.iterdir())
    result = run(bench, bench.model(4), input=None, output=None, output_dirname=None, loop=20)
    # The stub's first execution takes as many invented ms as the batch has rows.
    assert result.throughput == pytest.approx(1000.0)
    assert (result.summary, result.samples, result.loop, result.compute_ms) == (None, 4, 20, ())
    assert sorted(bench.folder.iterdir()) == sorted([*before, bench.folder / "m.om"])


def test_several_devices_share_the_files_and_the_summary_is_one(bench: Bench):
    rows = rows_of(7)
    bench.inputs(rows)
    said: list[str] = []
    result = run(bench, bench.model(2), devices=(3, 5), say=said.append)
    check_rows(Path("out/run_summary.json"), rows)
    assert (result.samples, result.padded_rows, len(result.compute_ms)) == (7, 1, 4)
    document = json.loads((bench.folder / "out" / "run_summary.json").read_text())
    parts = [
        json.loads((bench.folder / "out" / "run" / f"device{name}_summary.json").read_text())
        for name in ("3_0", "5_1")
    ]
    assert [len(part["filesinfo"]) for part in parts] == [4, 3]  # two batches each
    assert (
        document["throughput"]
        == result.throughput
        == pytest.approx(sum(part["throughput"] for part in parts))
    )
    assert document["npu_compute_time_list"] == [t for part in parts for t in part["npu_compute_time_list"]]
    assert document["H2D_latency"]["count"] == 4 and document["H2D_latency"]["median"] is None
    own = document["vidom"]
    assert own == bench.facts() and [part["files"] for part in own["parts"]] == [4, 3]
    assert own["devices"] == [3, 5] and "NPU 3,5" in own["device"]
    assert {line[:10] for line in said if line.startswith("[device")} == {"[device 3]", "[device 5]"}
    outputs = sorted(path.name for path in (bench.folder / "out" / "run").iterdir())
    assert outputs == sorted(
        [
            *(f"video_{number}_0.npy" for number in range(7)),
            "device3_0_summary.json",
            "device5_1_summary.json",
        ]
    )
    assert sorted(path.name for path in (bench.folder / "out").iterdir()) == [
        "run", "run_ais_bench_device3.log", "run_ais_bench_device5.log", "run_summary.json", "run_vidom.json",
    ]  # fmt: skip
    assert [path.stat().st_nlink for path in (bench.folder / "in").iterdir()] == [1] * 7


def test_what_several_devices_wrote_is_scored_like_any_run_and_may_be_moved(bench: Bench):
    rows = rows_of(5)
    bench.inputs(rows)
    run(bench, bench.model(2), devices=(0, 1))
    best = (rows @ WEIGHTS).argmax(axis=1)
    labels = [*best[:4], (best[4] + 1) % CLASSES]
    (bench.folder / "sthv2.info").write_text("".join(f"{n} {label}\n" for n, label in enumerate(labels)))
    shutil.move(bench.folder / "out", bench.folder / "elsewhere")
    scores = score(ScoreOptions(result_path=Path("elsewhere/run_summary.json"), info_path=Path("sthv2.info")))
    assert (scores.metrics.top1.correct, scores.metrics.n) == (4, 5)


@pytest.mark.parametrize(("samples", "used"), [(3, [0, 1]), (2, [0]), (1, [0])])
def test_a_device_with_nothing_to_do_is_not_started(bench: Bench, samples: int, used: list[int]):
    rows = rows_of(samples)
    bench.inputs(rows)
    result = run(bench, bench.model(2), devices=(0, 1, 2), batchsize=2)
    check_rows(Path("out/run_summary.json"), rows)
    assert result.samples == samples and bench.facts()["devices"] == used
    _, document = read_summary("out/run_summary.json")
    assert [part["device"] for part in document["vidom"]["parts"]] == used
    assert len(list((bench.folder / "out" / "run").glob("*.npy"))) == samples


def test_the_pure_loop_of_several_devices_adds_up(bench: Bench):
    options = {"input": None, "output": None, "output_dirname": None}
    assert run(bench, bench.model(4), devices=(0, 1), **options).throughput == pytest.approx(2000.0)
    with pytest.raises(UsageError, match="leave --output out"):
        run(bench, bench.model(4), devices=(0, 1), input=None)
    bench.inputs(rows_of(2))
    with pytest.raises(UsageError, match="need a folder"):
        run(bench, bench.model(4), devices=(0, 1), output=None, output_dirname=None)


def test_a_finished_run_is_replaced_and_leaves_nothing_of_itself(bench: Bench):
    rows = rows_of(5)
    bench.inputs(rows)
    run(bench, bench.model(2), devices=(0, 1), outfmt="TXT")
    (bench.folder / "out" / "run" / "notes.txt").write_text("mine")
    (bench.folder / "in" / "video_4.bin").unlink()
    run(bench, bench.model(2))
    check_rows(Path("out/run_summary.json"), rows[:4])
    assert sorted(path.name for path in (bench.folder / "out" / "run").iterdir()) == [
        "notes.txt", *(f"video_{number}_0.npy" for number in range(4)),
    ]  # fmt: skip
    assert [path.name for path in (bench.folder / "out").glob("*.log")] == ["run_ais_bench.log"]


def test_a_folder_that_vidom_did_not_make_is_not_touched(bench: Bench):
    bench.inputs(rows_of(2))
    strange = bench.folder / "out" / "run"
    strange.mkdir(parents=True)
    (strange / "video_0_0.npy").write_bytes(b"another program's")
    with pytest.raises(UsageError, match="choose a different --output_dirname"):
        run(bench, bench.model(1))
    assert (strange / "video_0_0.npy").read_bytes() == b"another program's"


def test_chip_comes_from_npu_smi(bench: Bench, fixtures: Path):
    bench.npu_smi(fixtures / "ascend" / "npu_smi" / "real_310P3_modelzoo_22.x.txt")
    bench.inputs(rows_of(2))
    said: list[str] = []
    run(bench, bench.model(1), say=said.append)
    assert bench.facts()["soc_version"] == "Ascend310P3"
    assert any(re.match(r"\[INFO\] device: NPU 0 \(Ascend310P3\)", line) for line in said)
