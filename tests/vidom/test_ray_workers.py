"""Preparation and packing in a Ray cluster of two local workers: the same bytes, whichever process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray_jobs
from ray_nodes import kill_a_worker
from ray_preparation import folders, prepare_words, write_source
from small_videos import tree

from preprocess.pack import PackOptions, pack
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.formats.recipe import load_recipe
from vidom.parallel.ray_cluster import RayNode, open_ray_cluster
from vidom.parallel.ray_workers import each_finished_on_ray

ROOT = Path(__file__).parents[2]


def test_without_the_option_ray_is_not_imported():
    modules = ("infer.evaluate", "preprocess.pack", "preprocess.prepare")
    program = f"import sys, {', '.join(modules)}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0


def test_where_ray_is_absent_the_command_to_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UnavailableError, match="make extras"),
        open_ray_cluster("local", cores=1, shared=tmp_path),
    ):
        pass


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "somewhere", "127.0.0.1:", "host:a"])
def test_an_address_that_is_invalid_is_refused(address: str, tmp_path: Path):
    pytest.importorskip("ray", reason="needs ray: make extras")
    with pytest.raises(UsageError, match="HOST:PORT"), open_ray_cluster(address, cores=1, shared=tmp_path):
        pass


def test_a_cluster_that_does_not_answer_is_reported_at_once(tmp_path: Path):
    pytest.importorskip("ray", reason="needs ray: make extras")
    with (
        pytest.raises(UnavailableError, match=r"No Ray cluster answers at 127\.0\.0\.1:9 "),
        open_ray_cluster("127.0.0.1:9", cores=1, shared=tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_job_is_done_and_errors_arrive_as_themselves(
    ray_address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with open_ray_cluster(ray_address, cores=0, shared=tmp_path) as cluster:
        assert set(cluster.nodes) == {RayNode(1, 0, 0), RayNode(1, 0, 1)} and cluster.cores == 2
        assert list(each_finished_on_ray(ray_jobs.square, [], cluster=cluster)) == []
        jobs = [(number, tmp_path / "died") for number in range(70)]
        found = list(each_finished_on_ray(ray_jobs.square_after_one_death, jobs, cluster=cluster))
        assert sorted(found) == [number**2 for number in range(70)]
        assert (tmp_path / "died").exists()
        with pytest.raises(BadDataError, match=r"^The video 3 holds no frames\.$"):
            list(each_finished_on_ray(ray_jobs.fail_at_three, range(9), cluster=cluster))
        with pytest.raises(
            UnavailableError, match=r"A block of 1 jobs, the first of them 7, was started 3 times"
        ):
            list(each_finished_on_ray(ray_jobs.die, [7], cluster=cluster))
        (witness,) = tmp_path.glob(".ray-witness-*")
        witness.unlink()  # as for a node that sees a different folder
        with pytest.raises(UnavailableError, match="must share the file system"):
            list(each_finished_on_ray(ray_jobs.square, [1, 2], cluster=cluster))
    assert [path.name for path in tmp_path.iterdir()] == ["died"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_command_and_a_killed_worker_end_with_the_same_frames(ray_address: str, tmp_path: Path):
    source = write_source(tmp_path / "src", 48)
    (tmp_path / "alone").mkdir()
    subprocess.run(prepare_words(source), cwd=tmp_path / "alone", check=True, capture_output=True)
    killed = tmp_path / "killed"
    killed.mkdir()
    process = subprocess.Popen(
        prepare_words(source, "--ray", ray_address),
        cwd=killed,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # Six are extracted by the command itself, to see how large they are.
    while folders(killed / "out") < 12 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert not (killed / "out" / "preparation.json").exists()

    hit: list[bool] = []
    before = folders(killed / "out")
    hunter = threading.Thread(
        target=lambda: hit.append(
            kill_a_worker("Map(_do_block)", when=lambda: folders(killed / "out") > before + 4)
        )
    )
    hunter.start()
    done = subprocess.run(
        prepare_words(source, "--ray", ray_address), cwd=killed, capture_output=True, check=False
    )
    hunter.join()
    assert done.returncode == 0, done.stderr.decode()
    assert hit == [True]
    assert tree(killed) == tree(tmp_path / "alone")


@pytest.mark.slow
def test_a_store_packed_by_the_cluster_has_the_same_bytes(ray_address: str, tmp_path: Path, fixtures: Path):
    names = ("land_427x240", "port_240x427", "odd_341x257", "one_320x240")
    data = tmp_path / "data"
    data.mkdir()
    lines = []
    for number in range(40):
        frames = fixtures / "synth" / names[number % 4]
        (data / f"v{number}").symlink_to(frames)
        lines.append(f"v{number} {len(list(frames.iterdir()))} {number % 7}\n")
    (tmp_path / "list.txt").write_text("".join(lines) + "absent 16 0\n")
    common = {"recipe": load_recipe("tsm_ucf101"), "data_root": data, "ann_file": tmp_path / "list.txt"}
    stores = {
        place: pack(
            PackOptions(
                **common, output_dir=tmp_path / name, workers=1, on_bad="skip", ray=place, batch_size=3
            )
        )
        for name, place in (("alone", None), ("together", ray_address))
    }
    assert [skip.id for skip in stores[ray_address].skipped] == ["absent"]
    assert tree(tmp_path / "alone") == tree(tmp_path / "together")
