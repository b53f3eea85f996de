"""Evaluation in a Ray cluster of two workers on this machine: same bytes as without it, whichever process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ascend_bench import Bench, set_up
from evaluation_cases import SHAPE, names, om_model, run_evaluation, sum_model, write_list, write_recipe
from ray_nodes import kill_a_worker, standin_python

from infer.evaluation.on_ray import Shares, shares_of
from vidom.errors import BadDataError, UnavailableError
from vidom.parallel.ray_cluster import RayNode

FILES = ["evaluation.json", "metrics.json", "record.jsonl"]
SAMPLE_BYTES = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]


def lines(record: Path) -> list[bytes]:
    return record.read_bytes().splitlines(keepends=True) if record.exists() else []


def nodes_of(*cores: int, gpus: int = 0) -> list[RayNode]:
    return [RayNode(count, gpus, 0) for count in cores]


@pytest.mark.parametrize(
    ("nodes", "on_gpus", "threads", "workers", "expected"),
    [
        (nodes_of(1, 1), False, None, None, Shares(engines=1, threads=1, decoders=1)),
        (nodes_of(2), False, None, None, Shares(engines=1, threads=1, decoders=1)),
        (nodes_of(4), False, 2, 2, Shares(engines=1, threads=2, decoders=2)),
        # One core in eight decodes; the others go to complete engines.
        (nodes_of(8, 8), False, None, None, Shares(engines=3, threads=4, decoders=4)),
        (nodes_of(64, 64), False, 1, None, Shares(engines=112, threads=1, decoders=16)),
        # An engine does not span two nodes.
        (nodes_of(3, 3, 3), False, 2, None, Shares(engines=3, threads=2, decoders=3)),
        (nodes_of(16, gpus=2), True, None, None, Shares(engines=2, threads=1, decoders=14, gpus=1)),
        (nodes_of(2, gpus=4), True, None, None, Shares(engines=1, threads=1, decoders=1, gpus=1)),
        # The cores of a node without a GPU decode.
        ([*nodes_of(2, gpus=2), *nodes_of(6)], True, None, None, Shares(2, threads=1, decoders=6, gpus=1)),
    ],
)
def test_the_division_of_a_cluster(
    nodes: list[RayNode], on_gpus: bool, threads: int | None, workers: int | None, expected: Shares
):
    shares = shares_of(nodes, on_gpus=on_gpus, threads=threads, workers=workers)
    assert shares == expected
    assert shares.engines * shares.threads + 1 <= sum(node.cores for node in nodes)


@pytest.mark.parametrize(
    ("nodes", "on_gpus", "threads"),
    [([], False, None), (nodes_of(1), False, 1), (nodes_of(2, 2), False, 3), (nodes_of(8), True, 1)],
)
def test_a_cluster_too_small_is_refused(nodes: list[RayNode], on_gpus: bool, threads: int | None):
    with pytest.raises(
        UnavailableError, match="The nodes of the Ray cluster have .* ray start --address=HOST:PORT"
    ):
        shares_of(nodes, on_gpus=on_gpus, threads=threads, workers=None)


@pytest.mark.slow
def test_a_killed_command_and_killed_workers_end_with_the_same_bytes(ray_address: str, tmp_path: Path):
    recipe = write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 150, missing=(7,))
    model = sum_model(tmp_path / "m.onnx", 3)
    alone = run_evaluation(tmp_path / "alone", model, annotations, on_bad="skip")
    options = {"recipe": recipe, "data_root": tmp_path / "data", "ann_file": annotations, "model": model}
    options |= {
        "output_dir": tmp_path / "killed",
        "on_bad": "skip",
        "engine": "onnxruntime",
        "ray": ray_address,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    record = tmp_path / "killed" / "record.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "infer.evaluate", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while len(lines(record)) < 20 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    before = len(lines(record))
    assert 20 <= before < 150 and not (record.parent / "metrics.json").exists()

    hit: list[bool] = []

    def hunt() -> None:
        hit.append(
            kill_a_worker("MapWorker(MapBatches(BatchEngine)", when=lambda: len(lines(record)) > before + 9)
        )
        hit.append(kill_a_worker("Map(decode_batch)", when=lambda: True))

    hunter = threading.Thread(target=hunt)
    hunter.start()
    again = run_evaluation(
        tmp_path / "killed", model, annotations, on_bad="skip", ray=ray_address, workers=None
    )
    hunter.join()
    assert hit == [True, True]
    assert (again.run.resumed, again.run.computed) == (before - 1, 150 - before)
    assert again.metrics_path.read_bytes() == alone.metrics_path.read_bytes()
    # The same rows; their order depends on which was first.
    assert sorted(lines(record)) == sorted(lines(tmp_path / "alone" / "record.jsonl"))
    assert [(skip.index, skip.reason) for skip in again.skipped] == [
        (skip.index, skip.reason) for skip in alone.skipped
    ]
    assert names(record.parent) == FILES


@pytest.mark.slow
def test_an_unreadable_sample_is_reported_as_on_one_machine(
    ray_address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 4, missing=(2,))
    model = sum_model(tmp_path / "m.onnx", 2)
    with pytest.raises(
        BadDataError, match=r"^Sample 2 of the list \(s002\) cannot be read\. .* --on_bad skip"
    ):
        run_evaluation(tmp_path / "out", model, annotations, ray=ray_address)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_chunks_on_an_npu_have_the_bytes_of_a_run_with_arrays(
    ray_address: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    # Only the node with the resource NPU has ais_bench: a stub, so nothing here is a measurement.
    with pytest.MonkeyPatch.context() as patch:
        bench = set_up(tmp_path / "site", patch)
    python = standin_python(tmp_path_factory)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{bench.packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 11, missing=(4,))
    alone = run_evaluation(tmp_path / "alone", sum_model(tmp_path / "m.onnx", 4), annotations, on_bad="skip")
    options = {"window": 4 * SAMPLE_BYTES + 1, "batch_size": 2, "engine": "ascend", "on_bad": "skip"}
    model = om_model(tmp_path / "m.om", 2)
    with pytest.raises(UnavailableError, match="--workers 2 processes .* only 1 cores"):
        run_evaluation(tmp_path / "npu", model, annotations, **options, ray=ray_address, workers=2)
    result = run_evaluation(tmp_path / "npu", model, annotations, **options, ray=ray_address)
    assert (result.run.computed, result.run.resumed) == (10, 0)
    assert result.metrics_path.read_bytes() == alone.metrics_path.read_bytes()
    assert names(tmp_path / "npu") == FILES


@pytest.mark.slow
def test_a_local_cluster_has_the_npus_that_npu_smi_shows(bench: Bench, fixtures: Path):
    write_recipe(bench.folder)
    write_list(bench.folder / "list.txt", 3)
    om_model(bench.folder / "m.om", 2)
    bench.npu_smi(fixtures / "ascend" / "npu_smi" / "real_310P3_modelzoo_22.x.txt")
    options = {"recipe": "sums.yaml", "data_root": "data", "ann_file": "list.txt", "model": "m.om"}
    options |= {"output_dir": "out", "engine": "ascend", "batch_size": "2", "ray": "local"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    # A process of its own, since one cannot start a second cluster. The table has two NPUs.
    ended = subprocess.run(
        [sys.executable, "-m", "infer.evaluate", *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "pack chunks for each of 2 NPUs" in ended.stderr and len(lines(Path("out/record.jsonl"))) == 4
