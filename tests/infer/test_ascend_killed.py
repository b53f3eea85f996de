"""A run on the NPU that is killed, and what the next makes of the results of an earlier one; ais_bench is a stub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ascend_bench import Bench
from onnx_models import rows_of
from run_infer import run_infer

from infer.engines.engine_options import AscendOptions
from vidom.errors import ExternalToolError

SAMPLES = 2
# Killed once the results of an earlier run are aside, before or after an output is written.
KILLED = """
import os
from infer.batches.run_folder import RunFolder
with RunFolder.of("./out", "run").replaced():
    if %r:
        open("out/run/video_0_0.npy", "w").close()
    os._exit(9)
"""
# Killed after as many renames.
KILLED_AT = """
import os
from infer.__main__ import main
left = %d
def counting(rename):
    def counted(*places, **how):
        global left
        rename(*places, **how)
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
    return counted
os.rename, os.replace = counting(os.rename), counting(os.replace)
main("--model m.om --engine ascend --input ./in --output ./out --output_dirname run --outfmt NPY".split())
"""


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """Files for a stub model of batch 2, and the results of a run."""
    bench.inputs(rows_of(SAMPLES))
    bench.model(2)
    run("TXT")
    return bench


def run(outfmt: str = "NPY") -> None:
    run_infer(model=Path("m.om"), engine=AscendOptions(), input="./in", output="./out", output_dirname="run",
              outfmt=outfmt, say=lambda _: None)  # fmt: skip


def run_program(text: str) -> int:
    environ = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{':'.join(sys.path)}"}
    return subprocess.run(
        [sys.executable, "-c", text], check=False, env=environ, capture_output=True
    ).returncode


def content() -> dict[str, bytes]:
    """All files of the results but the log, which is that of the last run."""
    files = (path for path in Path("out").rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to("out")): path.read_bytes() for path in files}


def refuse(bench: Bench) -> None:
    bench.behave("say", text=bench.folder / "m.om", code=2)
    with pytest.raises(ExternalToolError):
        run()
    bench.behave("")


@pytest.mark.parametrize("has_written", [False, True])
def test_what_a_killed_run_has_left_is_settled_by_the_next(has_written: bool, ready: Bench):
    before = content()
    assert run_program(KILLED % has_written) == 9 and not Path("out/run_summary.json").exists()
    refuse(ready)
    if has_written:
        assert sorted(content()) == ["run.journal.jsonl", "run/video_0_0.npy"]
    else:
        assert content() == before


@pytest.mark.slow
def test_killed_after_any_rename_it_ends_as_if_it_had_not_been(ready: Bench):
    run()
    truth = content()
    names, outputs = set(truth), [name for name in truth if name.endswith(".npy")]
    # Summary, facts, log and outputs of the earlier run are put aside; journal and facts are written.
    renames = 3 + SAMPLES + 2
    assert run_program(KILLED_AT % (renames + 1)) == 0
    for number in range(1, renames + 1):
        run("TXT")
        assert run_program(KILLED_AT % number) == -9
        run()
        found = content()
        assert set(found) == names and all(found[name] == truth[name] for name in outputs)
