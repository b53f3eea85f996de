"""The versions of ais_bench, acted by the stub as they were seen to behave, and the results of an earlier run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import CLASSES, WEIGHTS, Bench
from onnx_models import linear, rows_of
from run_infer import run_infer

from infer.batches.performance import InferenceResult
from infer.engines.engine_options import AscendOptions, OnnxRuntimeOptions
from postprocess.score import ScoreOptions, score
from vidom.errors import ExternalToolError, UsageError
from vidom.formats.engine_outputs import read_output, read_summary

VERSIONS = ("F23", "F24", "F25", "F26")


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """Five files for a stub model of batch 2."""
    bench.inputs(rows_of(5))
    bench.model(2)
    return bench


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask000", "umask022", "umask077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def run(*, devices: tuple[int, ...] = (0,), **options: object) -> InferenceResult:
    chosen = {"input": "./in", "output": "./out", "output_dirname": "run", "outfmt": "NPY", **options}
    return run_infer(model=Path("m.om"), engine=AscendOptions(devices=devices), say=lambda _: None, **chosen)


def check_results(count: int = 5) -> None:
    entries, _ = read_summary("out/run_summary.json")
    found = [read_output(entry.outfiles[0], classes=CLASSES) for entry in entries]
    np.testing.assert_allclose(np.concatenate(found), rows_of(5)[:count] @ WEIGHTS, rtol=1e-4, atol=2e-6)


def content(folder: Path) -> dict[str, bytes]:
    """All files of the results but the log, which is that of the last run."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_runs(version: str, ready: Bench):
    ready.play(version)
    result = run(display_all_summary=True, debug=True)
    assert (result.samples, result.padded_rows, len(result.compute_ms)) == (5, 1, 3)
    check_results()
    # The stub's first execution takes as many ms as the batch has rows, each further one a ms more.
    assert run(input=None, output=None, output_dirname=None, loop=4).throughput == pytest.approx(1000)
    run(devices=(0, 1), outfmt="TXT")
    check_results()


def test_the_words_are_those_of_the_version(ready: Bench):
    ready.play("F26")
    run(warmup_count=2, debug=True)
    (command,) = ready.facts()["commands"]
    assert command.endswith("--output-dirname run --outfmt NPY --warmup-count 2 --device 0 --debug")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("devices", [(0,), (0, 1)])
def test_the_folder_of_results_has_0750_whatever_made_it(
    version: str, devices: tuple[int, ...], umask: int, ready: Bench
):
    ready.play(version)
    (ready.folder / "in").chmod(0o755)
    for path in (ready.folder / "m.om", *(ready.folder / "in").iterdir()):
        path.chmod(0o644)
    for folder in ("out", "out/run"):
        Path(folder).mkdir(mode=0o777)
    run(devices=devices)
    check_results()
    assert [stat.S_IMODE(Path(folder).stat().st_mode) for folder in ("out", "out/run")] == [0o750, 0o750]


def test_an_open_folder_is_remarked_on_once(ready: Bench, capfd: pytest.CaptureFixture[str]):
    Path("out").mkdir(mode=0o755)
    run()
    assert "out had the mode 0755 and now has 0750" in capfd.readouterr().err
    run()
    assert "mode 0755" not in capfd.readouterr().err


def test_the_results_of_the_cpu_are_replaced_in_the_same_folder(ready: Bench):
    linear(Path("m.onnx"), 2)
    run_infer(model=Path("m.onnx"), engine=OnnxRuntimeOptions(), input="./in", output="./out",
              output_dirname="run", outfmt="NPY", say=lambda _: None)  # fmt: skip
    run()
    check_results()


@pytest.mark.parametrize("devices", [(0,), (0, 1)])
@pytest.mark.parametrize("earlier_devices", [(0,), (0, 1)])
def test_a_refused_run_leaves_the_earlier_results(
    devices: tuple[int, ...], earlier_devices: tuple[int, ...], ready: Bench
):
    run(devices=earlier_devices)
    before = content(Path("out"))
    (ready.folder / "said.txt").write_text(
        "[ERROR] path: x\nerror: argument --output/-o: output path:x is illegal."
    )
    ready.behave("say", text=ready.folder / "said.txt", code=2)
    with pytest.raises(ExternalToolError, match="ended with code 2"):
        run(devices=devices, outfmt="TXT")
    assert content(Path("out")) == before
    check_results()
    # What it said is next to the results.
    logs = [path.read_text() for path in Path("out").glob("run_ais_bench*.log")]
    assert any("output path:x is illegal" in text for text in logs)
    ready.behave("")
    run(outfmt="TXT")
    check_results()
    assert not list(Path("out", "run").glob("*.npy"))


def test_a_run_that_fails_later_leaves_nothing_of_the_earlier(ready: Bench):
    run(outfmt="TXT")
    ready.behave("half")
    with pytest.raises(ExternalToolError, match="2 output files for 5 inputs are in out/run; they are kept"):
        run()
    names = sorted(path.name for path in Path("out", "run").iterdir())
    assert names == ["video_0_0.npy", "video_1_0.npy"] and not Path("out/run_summary.json").exists()


def test_the_name_of_the_run_is_also_a_path_in_the_current_folder(ready: Bench):
    Path("run").mkdir(mode=0o755)
    with pytest.raises(UsageError, match=r"takes --output_dirname run for .*/run, .* chmod 750 run"):
        run()
    Path("run").chmod(0o750)
    run()
    check_results()


def test_links_and_loops_that_it_refuses_are_refused_first(ready: Bench):
    Path("elsewhere").mkdir(mode=0o750)
    Path("link").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="Symbolic links are not followed"):
        run(output="./link")
    with pytest.raises(UsageError, match="at most 100000 times, found --loop 100001"):
        run(loop=100_001)
    assert not list(Path("elsewhere").iterdir())


def test_scores_of_a_refused_run_are_those_of_the_earlier(ready: Bench):
    run()
    best = (rows_of(5) @ WEIGHTS).argmax(axis=1)
    Path("sthv2.info").write_text("".join(f"{n} {label}\n" for n, label in enumerate(best)))
    ready.behave("say", text=ready.folder / "m.om", code=2)
    with pytest.raises(ExternalToolError):
        run()
    assert (
        score(
            ScoreOptions(result_path=Path("out/run_summary.json"), info_path=Path("sthv2.info"))
        ).metrics.top1.value
        == 1
    )
