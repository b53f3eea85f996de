from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from onnx_models import linear, rows_of, write_rows

from infer.__main__ import main
from vidom.errors import UsageError
from vidom.formats.engine_outputs import read_summary


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infer", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `m.onnx` for one row at once and five files in `in`."""
    linear(tmp_path / "m.onnx", 1)
    write_rows(tmp_path / "in", rows_of(5))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_result_is_on_stdout_and_nothing_on_stderr(here: Path):
    done = command(
        *("--model", "m.onnx", "--input", "./in", "--output", "./o", "--output_dirname", "run"), cwd=here
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "[INFO] output path:./o/run\n" in done.stdout and "no NPU was used" in done.stdout
    entries, document = read_summary(here / "o" / "run_summary.json")
    assert entries[0].infiles == ("./in/video_0.bin",) and entries[0].outfiles == ("./o/run/video_0_0.bin",)
    assert document["args"][1:] == [
        "--model", "m.onnx", "--input", "./in", "--output", "./o", "--output_dirname", "run",
    ]  # fmt: skip


def test_short_options_dashes_and_values_of_booleans_are_ais_bench_s(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    words = (
        "-m m.onnx -i in -o o --output-dirname run --outfmt TXT -l 2 -d 0 --display_all_summary Y --debug t"
    )
    main([*words.split(), "--run_mode", "full", "--pure_data_type", "random"])
    printed = capsys.readouterr()
    assert "H2D_latency (ms)" in printed.out and "D2H_latency (ms)" in printed.out
    assert "x  (1, 4)  float32  16" in printed.err and "y  (1, 3)  float32  12" in printed.err
    assert json.loads((here / "o" / "run_summary.json").read_text())["NPU_compute_time"]["count"] == 10
    main([*words.replace("Y", "no").split()])
    assert "H2D_latency" not in capsys.readouterr().out


def test_a_device_other_than_0_has_no_effect_on_the_cpu_and_is_reported(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    main(["--model", "m.onnx", "--device", "0"])
    assert capsys.readouterr().err == ""
    main(["--model", "m.onnx", "--device", "3"])
    assert "--device 3 has no effect" in capsys.readouterr().err
    for wrong, words in (
        ("0,1", "several devices"),
        ("256", "0 to 255"),
        ("-1", "0 to 255"),
        ("x", "0 to 255"),
    ):
        with pytest.raises(UsageError, match=words):
            main(["--model", "m.onnx", f"--device={wrong}"])


@pytest.mark.parametrize(
    "option",
    [
        *("--profiler", "--profiler_rename", "--dump", "--dump_npy", "--acl_json_path", "--aipp_config"),
        *("--pipeline", "--divide_input", "--energy_consumption", "--npu_id", "--backend"),
        *("--perf", "--dymHW", "--dymDims", "--dymShape", "--dym-shape", "--dymShape_range", "--outputSize"),
        *("--auto_set_dymshape_mode", "--auto_set_dymdims_mode"),
    ],
)
def test_options_of_the_npu_are_named_and_refused(option: str, here: Path):
    spelled = option.replace("-", "_").removeprefix("__")
    with pytest.raises(UsageError, match=rf"--{spelled} needs the NPU engine"):
        main(["--model", "m.onnx", option, "1"])


def test_the_pure_loop_with_a_symbolic_batch(here: Path, capsys: pytest.CaptureFixture[str]):
    linear(here / "n.onnx", "N")
    main(["--model", "n.onnx", "--loop", "20", "--dymBatch", "4"])
    assert re.search(r"throughput 1000\*batchsize\.mean\(4\)", capsys.readouterr().out)
    assert sorted(path.name for path in here.iterdir()) == ["in", "m.onnx", "n.onnx"]


@pytest.mark.slow
def test_mistakes_end_in_one_paragraph_and_the_exit_code_of_their_kind(here: Path):
    (here / "m.om").write_bytes(b"")
    (here / "in" / "video_1.bin").write_bytes(b"short")
    cases = [
        (["--model", "m.om"], 3, "NPU with ais_bench"),
        ([], 2, "--model is missing"),
        (["--model", "gone.onnx"], 4, "gone.onnx does not exist"),
        (["--model", "m.onnx", "--input", "in"], 4, "video_1.bin has 5 bytes, expected 16"),
        (["--model", "m.onnx", "--input", ""], 2, "--input is empty"),
        (["--model", "m.onnx", "--output_dirname", "x"], 2, "cannot be used alone"),
    ]
    for words, code, message in cases:
        done = command(*words, cwd=here)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "words", [["--loop", "x"], ["--debug", "maybe"], ["--outfmt", "CSV"], ["--run_mode", "fast"]]
)
def test_what_the_parser_refuses_ends_with_2(words: list[str], here: Path):
    with pytest.raises(SystemExit) as stop:
        main(["--model", "m.onnx", *words])
    assert stop.value.code == 2
