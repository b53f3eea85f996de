"""How ais_bench fails and what is said of it: recorded texts of the real frontend, and a stub that acts."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import Bench
from onnx_models import rows_of
from run_infer import run_infer

from infer.engines.ascend.failures import explain
from infer.engines.engine_options import AscendOptions
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UserError

RECORDED = {
    "axis": "--output_batchsize_axis",
    "big": "input files have 48 bytes, the model's input 16",
    "small": "input files have 12 bytes, the model's input 16",
    "dymbatch": "--dymBatch is for an .om that was compiled for several batches",
    "failexec": r"ACL reported error -1 \(general failure\)",
    "gw": r"\./gw/v\.bin may be written by the group or others",
    "umask": r"\./um may be written by the group or others.*umask 027",
    "half_bs1": "smaller dtype than the model takes",
    "link": r"\./link/v\.bin is a symbolic link",
    "mixed": r"larger or smaller than the first \(32 bytes where 16",
    "nodir": r"refused the path \./nope of --input",
    "notom": r"refused the path tiny_bs1\.onnx of --model",
    "nometa": "setuptools<82",
    "nopkgres": "setuptools<82",
    "owner": r"\./own/video_0\.bin belongs to a user and group other than",
    "space": "sp ace contains characters other than",
}
# Of these no recording exists here; the texts are those of aclruntime's source and of public reports.
REPORTED = {
    "[ERROR] load model from file failed, model file is m.om\nRuntimeError: [500002][ACL: internal error] ": (
        "compiled for and on a CANN not older.*compile it again"
    ),
    "[ERROR] open device 3 failed\nRuntimeError: [507033][ACL: unknown] ": "Device 3 could not be opened.*HwHiAiUser",
    "ImportError: libascendcl.so: cannot open shared object file": "set_env.sh",
    "/usr/bin/python3: No module named ais_bench": "This Python has no ais_bench.*AIS_PYTHON",
    "__main__.py: error: argument --loop/-l: 100001 is an invalid positive int value": (
        "refused the value of --loop: 100001 is an invalid positive int value"
    ),
    "__main__.py: error: unrecognized arguments: --warmup_count 2": "does not know --warmup_count 2",
    "OSError: [Errno 28] No space left on device": "disk is full",
    "[ERROR] something new\nRuntimeError": r"last output was: \[ERROR\] something new",
    "": "it printed nothing",
}


@pytest.mark.parametrize(("name", "words"), RECORDED.items())
def test_every_recorded_failure_has_its_paragraph(name: str, words: str, fixtures: Path):
    found = explain((fixtures / "ascend" / "failures" / f"err_{name}.txt").read_text())
    assert "\n" not in found
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found)


@pytest.mark.parametrize(("text", "words"), REPORTED.items())
def test_reported_failures_have_theirs(text: str, words: str):
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(explain(text))


def failure(bench: Bench, kind: type[UserError], **options: object) -> str:
    chosen = {"input": "./in", "output": "./out", "output_dirname": "run", "outfmt": "NPY", **options}
    with pytest.raises(kind) as caught:
        run_infer(model=Path("m.om"), say=lambda _: None, **{"engine": AscendOptions(), **chosen})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """Six files for a stub model of batch 2."""
    bench.inputs(rows_of(6))
    bench.model(2)
    return bench


def outputs(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.folder / "out" / "run").glob("*.npy"))


def test_half_the_outputs_and_no_summary(ready: Bench):
    ready.behave("half")
    told = failure(ready, ExternalToolError)
    assert "ais_bench on device 0 ended with code 1" in told and "error 507011 (model execute failed)" in told
    assert "2 output files for 6 inputs are in out/run; they are kept" in told
    assert (
        "run_ais_bench.log" in told and "507011" in (ready.folder / "out" / "run_ais_bench.log").read_text()
    )
    assert outputs(ready) == ["video_0_0.npy", "video_1_0.npy"]
    assert sorted(path.name for path in (ready.folder / "out").iterdir()) == [
        "run", "run.journal.jsonl", "run_ais_bench.log",
    ]  # fmt: skip
    ready.behave("")
    run_infer(
        model=Path("m.om"),
        engine=AscendOptions(),
        input="./in",
        output="./out",
        output_dirname="run",
        say=lambda _: None,
    )
    assert outputs(ready) == []  # those of the failed run were NPY, these are BIN


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("no_summary", "ended with code 0 but wrote no summary out/run_summary.json"),
        ("lost_output", "1 of its 6 outputs are missing or empty: ./out/run/video_1_0.npy"),
        ("forgotten_input", "its summary leaves out 1 of 6 inputs: video_1"),
    ],
)
def test_code_0_is_not_believed(mode: str, words: str, ready: Bench):
    ready.behave(mode)
    assert words in failure(ready, ExternalToolError)
    assert not (ready.folder / "out" / "run_vidom.json").exists()


def test_killed_from_outside(ready: Bench):
    ready.behave("killed")
    told = failure(ready, ExternalToolError)
    assert "was killed by signal 9" in told and "probably out of memory" in told


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def worker_is_gone(path: Path) -> bool:
    pid = int(path.read_text())
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


@pytest.mark.slow
def test_the_time_limit_ends_a_run_that_hangs_and_its_workers(ready: Bench):
    ready.behave("hang")
    told = failure(ready, ExternalToolError, engine=AscendOptions(time_limit=2))
    assert re.search(r"had not ended after \d+ s, the --time_limit", told)
    assert worker_is_gone(ready.folder / "worker_0.pid")


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_its_workers(ready: Bench):
    ready.behave("hang")

    def interrupt(line: str) -> None:
        if "acl init" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_infer(model=Path("m.om"), engine=AscendOptions(), input="./in", say=interrupt)
    assert worker_is_gone(ready.folder / "worker_0.pid")


@pytest.mark.slow
def test_when_one_device_fails_the_others_are_stopped(ready: Bench, tmp_path: Path):
    text = tmp_path / "said.txt"
    text.write_text("[ERROR] open device 1 failed\n")
    ready.behave("say@1", text=text, code=1)
    told = failure(ready, ExternalToolError, engine=AscendOptions(devices=(0, 1)))
    assert "ais_bench on device 1 ended with code 1" in told and "Device 1 could not be opened" in told
    assert "run_ais_bench_device0.log" in told and "run_ais_bench_device1.log" in told
    assert not list((ready.folder / "out").glob(".run-parts-*"))


def test_a_refusal_ends_with_the_code_of_a_failed_tool(ready: Bench, fixtures: Path):
    ready.behave("say", text=fixtures / "ascend" / "failures" / "err_umask.txt", code=2)
    told = failure(ready, ExternalToolError)
    assert "ended with code 2" in told and "umask 027" in told
    assert ExternalToolError.exit_code == 5


def test_files_that_ais_bench_would_silently_pack_wrongly_stop_the_run(bench: Bench):
    # Half as many bytes as a sample: ais_bench takes two for one, and with a batch of 2 or more says nothing.
    bench.inputs(rows_of(6).astype(np.float16))
    bench.model(2)
    told = failure(bench, BadDataError)
    assert "packs 4 files of 8 bytes into one batch of 2 samples" in told
    assert not (bench.folder / "out" / "run_summary.json").exists()


def test_what_does_not_start_is_told_before_the_run(ready: Bench):
    ready.play("F24")
    ready.without_pkg_resources()
    told = failure(ready, UnavailableError)
    assert 'pip install "setuptools<82"' in told and not (ready.folder / "out").exists()
    ready.patch.setenv("AIS_PYTHON", "no-such-python")
    assert "no-such-python" in failure(ready, UnavailableError)
