"""Compile with a stub of ATC: what counts as success, lint, options and records."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lint_graphs import model_file
from stub_atc import GRAPH, StubAtc, arguments, build_folder

from export.to_om import main
from vidom.errors import CheckFailedError, UnavailableError, UsageError
from vidom.files import sha256_file

REPOSITORY = Path(__file__).parents[2]
FREE = GRAPH.replace("8,3", "n,3")
NPU_SMI = """\
+-------------------------------------------------------------------------------------------+
| npu-smi 22.0.2                   Version: 22.0.2                                          |
+----------------------+---------------+----------------------------------------------------+
| NPU     Name         | Health        | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device       | Bus-Id        | AICore(%)    Memory-Usage(MB)                      |
+======================+===============+====================================================+
| 0       310P3        | OK            | 16.7         54                0    / 0            |
| 0       0            | 0000:86:00.0  | 0            1673 / 21527                          |
+======================+===============+====================================================+
"""


@pytest.fixture
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubAtc:
    stub = StubAtc(tmp_path / "stub")
    stub.on_path(monkeypatch)
    return stub


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return build_folder(tmp_path)


def test_success_writes_the_model_the_log_and_the_record(
    atc: StubAtc, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(build))
    printed = capsys.readouterr()
    assert printed.out == f"{build / 'tsm_bs8.om'}\n"
    assert (build / "tsm_bs8.om").read_bytes() == b"OM of the stub"
    assert (build / "atc.log").read_text().splitlines()[0].startswith("ATC start working")
    assert "ATC run success" in printed.err
    assert "without an NPU" in printed.err
    assert atc.cwd == build / "tsm_bs8.atc"
    assert sorted(path.name for path in atc.cwd.iterdir()) == ["fusion_result.json", "kernel_meta"]
    assert atc.words == [
        "--model=../tsm_new_bs8.onnx",
        "--framework=5",
        "--output=tsm_bs8",
        "--input_format=ND",
        "--input_shape=clips:8,3",
        "--log=error",
        "--soc_version=Ascend310P3",
        "--precision_mode=force_fp16",
    ]
    entry = json.loads((build / "build.json").read_text())["models"]["tsm_bs8.om"]
    assert entry["sha256"] == sha256_file(build / "tsm_bs8.om")
    assert entry["made_from"]["model_sha256"] == sha256_file(build / "tsm_new_bs8.onnx")
    assert entry["made_from"]["command"] == [str(atc.program), *atc.words]
    assert entry["command_line"].endswith(" ".join(atc.words))
    assert entry["working_folder"] == "tsm_bs8.atc"
    assert entry["soc_version"] == "Ascend310P3"
    assert entry["made_from"]["cann"] is None
    assert entry["made_from"]["input_dtype"] == "float32"
    assert entry["npu_used"].startswith("none")


def test_the_command_is_printed_before_it_runs(
    atc: StubAtc, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(build))
    log = capsys.readouterr().err
    assert log.index("--framework=5") < log.index("ATC start working")


def test_a_model_with_the_host_in_its_name_is_renamed_and_recorded(atc: StubAtc, build: Path) -> None:
    atc.behave("second name")
    main(arguments(build))
    assert (build / "tsm_bs8.om").read_bytes() == b"OM of the stub"
    entry = json.loads((build / "build.json").read_text())["models"]["tsm_bs8.om"]
    assert entry["atc_named_it"] == "tsm_bs8_linux_x86_64.om"


def test_an_up_to_date_model_is_kept_and_a_stale_one_rebuilt(atc: StubAtc, build: Path) -> None:
    main(arguments(build))
    (atc.folder / "seen.json").unlink()
    main(arguments(build))
    assert not atc.called
    main(arguments(build, "--output_type", "FP16"))
    assert atc.called
    (atc.folder / "seen.json").unlink()
    model_file(build, GRAPH.replace("Relu", "Neg")).rename(build / "tsm_new_bs8.onnx")
    main(arguments(build, "--output_type", "FP16"))
    assert atc.called


def test_changed_contents_of_an_option_file_make_the_model_stale(atc: StubAtc, build: Path) -> None:
    keep = build / "keep.cfg"
    keep.write_text("conv1\n")
    main(arguments(build, "--keep_dtype", str(keep)))
    assert "--keep_dtype=../keep.cfg" in atc.words
    (atc.folder / "seen.json").unlink()
    keep.write_text("conv2\n")
    main(arguments(build, "--keep_dtype", str(keep)))
    assert atc.called


def test_lint_errors_stop_before_atc(atc: StubAtc, build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_file(build, GRAPH, opset=19, domains=', "ai.onnx.ml": 2').rename(build / "tsm_new_bs8.onnx")
    with pytest.raises(CheckFailedError, match=r"2 error\(s\)"):
        main(arguments(build))
    assert "E16005" in capsys.readouterr().err
    assert not atc.called
    assert not (build / "commands.sh").exists()


def test_lint_warnings_are_printed_and_recorded(
    atc: StubAtc, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "g (uint8[8,3] clips) => (float[8,3] y) { y = Cast<to = 1>(clips) }"
    model_file(build, text).rename(build / "tsm_new_bs8.onnx")
    main(arguments(build))
    assert "warning input-type" in capsys.readouterr().err
    entry = json.loads((build / "build.json").read_text())["models"]["tsm_bs8.om"]
    assert "experimental" in entry["lint_warnings"][0]
    assert entry["made_from"]["input_dtype"] == "uint8"


def test_a_symbolic_batch_is_fixed_or_profiled(atc: StubAtc, build: Path) -> None:
    model_file(build, FREE).rename(build / "tsm_new_bs8.onnx")
    main(arguments(build))
    assert "--input_shape=clips:8,3" in atc.words
    main(arguments(build, "--dynamic_batch_size", "1,4,8", batch=""))
    assert "--input_shape=clips:-1,3" in atc.words
    assert "--dynamic_batch_size=1,4,8" in atc.words
    assert (build / "commands.sh").read_text().count("--dymBatch") == 4
    with pytest.raises(UsageError, match="must be fixed"):
        main(arguments(build, batch=""))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--time_limit", "0"], "--time_limit"),
        (["--keep_dtype", "nowhere.cfg"], "no file nowhere.cfg"),
        (["--precision_mode", "force_fp16", "--precision_mode_v2", "fp16"], "mutually exclusive"),
        (["--cann", "eight"], "CANN version"),
    ],
)
def test_contradictory_options_are_rejected(atc: StubAtc, build: Path, more: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        main(arguments(build, *more))
    assert not atc.called


def test_a_wrong_chip_lists_the_legal_ones(atc: StubAtc, build: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean Ascend310P3\?.*Ascend310P1"):
        main(arguments(build, chip="Ascend310P33"))


def test_the_chip_is_detected_with_npu_smi(atc: StubAtc, build: Path) -> None:
    program = atc.folder / "npu-smi"
    program.write_text(f"#!/bin/sh\n# STUB of npu-smi\ncat <<'END'\n{NPU_SMI}END\n")
    program.chmod(0o755)
    main(arguments(build, chip=""))
    assert "--soc_version=Ascend310P3" in atc.words


def test_without_npu_smi_the_chip_is_required(
    atc: StubAtc, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(atc.folder))
    with pytest.raises(UnavailableError, match="--soc_version is required"):
        main(arguments(build, chip=""))


def test_the_installed_release_determines_the_precision_option(
    atc: StubAtc, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "cann"
    home.mkdir()
    (home / "version.cfg").write_text("toolkit_running_version=[7.3.0.1.231:8.0.RC2]\n")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(home))
    main(arguments(build))
    assert "--precision_mode_v2=fp16" in atc.words
    entry = json.loads((build / "build.json").read_text())["models"]["tsm_bs8.om"]
    assert entry["made_from"]["cann"] == "8.0.RC2"
    main(arguments(build, "--cann", "6.0"))
    assert "--precision_mode=force_fp16" in atc.words


def test_without_atc_the_script_is_written_and_reported(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"CANN toolkit.*commands\.sh.*Nothing was compiled"):
        main(arguments(build))
    assert os.access(build / "commands.sh", os.X_OK)
    assert not (build / "tsm_bs8.atc").exists()


def test_a_dry_run_prints_the_published_line_and_does_not_run_atc(
    atc: StubAtc, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(build, "--dry-run"))
    (line,) = capsys.readouterr().out.splitlines()
    guide = "atc --model=tsm_new_bs8.onnx --framework=5 --output=tsm_bs8 --input_format=ND"
    assert line == (
        f"{guide} --input_shape=clips:8,3 --log=error --soc_version=Ascend310P3 --precision_mode=force_fp16"
    )
    assert line in (build / "commands.sh").read_text().splitlines()
    assert not atc.called
    assert sorted(path.name for path in build.iterdir()) == ["commands.sh", "tsm_new_bs8.onnx"]
