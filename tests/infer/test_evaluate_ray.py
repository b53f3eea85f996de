"""Evaluation in a Ray cluster of two workers on this machine: the bytes of a run without it, whoever is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ascend_bench import set_up
from evaluation_cases import SHAPE, om_model, run_evaluation, sum_model, write_list, write_recipe
from ray_nodes import kill_a_worker, standin_python

from infer.evaluation.on_ray import Shares, shares_of
from infer.evaluation.plan import plan_evaluation
from infer.evaluation.record_metrics import score_record
from vidom.errors import BadDataError, UnavailableError
from vidom.formats.recipe import load_recipe
from vidom.parallel.ray_cluster import RayNode

FILES = ["evaluation.json", "metrics.json", "record.jsonl"]
SAMPLE_BYTES = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lines(record: Path) -> list[bytes]:
    return record.read_bytes().splitlines(keepends=True) if record.exists() else []


def nodes_of(*cores: int, gpus: int = 0) -> list[RayNode]:
    return [RayNode(count, gpus, 0) for count in cores]


@pytest.mark.parametrize(
    ("nodes", "on_gpus", "threads", "workers", "wanted"),
    [
        (nodes_of(1, 1), False, None, None, Shares(engines=1, threads=1, decoders=1)),
        (nodes_of(2), False, None, None, Shares(engines=1, threads=1, decoders=1)),
        (nodes_of(4), False, 2, 2, Shares(engines=1, threads=2, decoders=2)),
        # One core in eight decodes, and of the others only whole engines count.
        (nodes_of(8, 8), False, None, None, Shares(engines=3, threads=4, decoders=4)),
        (nodes_of(64, 64), False, 1, None, Shares(engines=112, threads=1, decoders=16)),
        # An engine does not reach over two nodes.
        (nodes_of(3, 3, 3), False, 2, None, Shares(engines=3, threads=2, decoders=3)),
        (nodes_of(16, gpus=2), True, None, None, Shares(engines=2, threads=1, decoders=14, gpus=1)),
        (nodes_of(2, gpus=4), True, None, None, Shares(engines=1, threads=1, decoders=1, gpus=1)),
        # The cores of a node without a GPU decode.
        ([*nodes_of(2, gpus=2), *nodes_of(6)], True, None, None, Shares(2, threads=1, decoders=6, gpus=1)),
    ],
)
def test_a_cluster_is_shared_out(
    nodes: list[RayNode], on_gpus: bool, threads: int | None, workers: int | None, wanted: Shares
):
    found = shares_of(nodes, on_gpus=on_gpus, threads=threads, workers=workers)
    assert found == wanted
    assert found.engines * found.threads + 1 <= sum(node.cores for node in nodes)


@pytest.mark.parametrize(
    ("nodes", "on_gpus", "threads"),
    [([], False, None), (nodes_of(1), False, 1), (nodes_of(2, 2), False, 3), (nodes_of(8), True, 1)],
)
def test_a_cluster_too_small_is_told(nodes: list[RayNode], on_gpus: bool, threads: int | None):
    with pytest.raises(
        UnavailableError, match="The nodes of the Ray cluster have .* ray start --address=HOST:PORT"
    ):
        shares_of(nodes, on_gpus=on_gpus, threads=threads, workers=None)


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
    assert (again.ran.resumed, again.ran.computed) == (before - 1, 150 - before)
    assert again.metrics_path.read_bytes() == alone.metrics_path.read_bytes()
    # The same rows; only their order tells who was first.
    assert sorted(lines(record)) == sorted(lines(tmp_path / "alone" / "record.jsonl"))
    assert [(skip.index, skip.reason) for skip in again.skipped] == [
        (skip.index, skip.reason) for skip in alone.skipped
    ]
    assert names(record.parent) == FILES


def test_an_unreadable_sample_arrives_as_itself(
    ray_address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    write_recipe(tmp_path)
    annotations = write_list(tmp_path / "list.txt", 4, missing=(2,))
    model = sum_model(tmp_path / "m.onnx", 2)
    with pytest.raises(
        BadDataError, match=r"^Sample 2 of the list \(s002\) can not be read\. .* --on_bad skip"
    ):
        run_evaluation(tmp_path / "out", model, annotations, ray=ray_address)
    assert "Traceback" not in capfd.readouterr().err


def test_windows_on_an_npu_have_the_bytes_of_the_streamed_run(
    ray_address: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    # Only the node that calls itself an NPU's finds ais_bench: a stand-in, so nothing here is a measurement.
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
    found = run_evaluation(tmp_path / "npu", model, annotations, **options, ray=ray_address)
    assert (found.ran.computed, found.ran.resumed) == (10, 0)
    assert found.metrics_path.read_bytes() == alone.metrics_path.read_bytes()
    assert names(tmp_path / "npu") == FILES


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda rows: [*rows, rows[3]], r"1 samples have several \(2 \(s002\)\)"),
        (lambda rows: rows[:-1], r"1 samples have no row \(5 \(s005\)\)"),
        (lambda rows: [*rows[:2], *rows[3:]], r"1 samples have no row \(1 \(s001\)\)"),
    ],
)
def test_a_record_with_an_id_missing_or_twice_is_not_scored(tamper, told: str, tmp_path: Path):
    recipe = load_recipe(str(write_recipe(tmp_path)))
    annotations = write_list(tmp_path / "list.txt", 6)
    run_evaluation(tmp_path / "out", sum_model(tmp_path / "m.onnx", 2), annotations)
    record = tmp_path / "tampered.jsonl"
    record.write_bytes(b"".join(tamper(lines(tmp_path / "out" / "record.jsonl"))))
    plan = plan_evaluation(recipe=recipe, data_root=tmp_path / "data", ann_file=annotations)
    with pytest.raises(BadDataError, match=told):
        score_record(record, plan.jobs, {}, recipe=recipe, output=tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()
