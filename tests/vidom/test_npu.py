from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError
from vidom.system.npu import common_soc_version, list_npus, parse_npu_smi, visible_npus

# Read off the tables by eye: id, chip, device, name, health, memory, HBM, W, °C, soc_version.
TABLES = {
    "synthetic_310_from_driver_source.txt": [
        (0, chip, chip, "310", "OK", (2703, 8192), (None, None), 12.8, 45 + chip, "Ascend310")
        for chip in range(4)
    ],
    "real_310P3_modelzoo_22.x.txt": [
        (0, 0, 0, "310P3", "OK", (1074, 21534), (None, None), 15.8, 42, "Ascend310P3"),
        (1, 0, 1, "310P3", "OK", (1070, 21534), (None, None), 15.4, 43, "Ascend310P3"),
    ],
    "real_310P3_duo_25.0.rc1.1.txt": [
        (6, 0, 0, "310P3", "OK", (1175, 44280), (None, None), None, 55, "Ascend310P3"),
        (6, 1, 1, "310P3", "OK", (8322, 43693), (None, None), None, 52, "Ascend310P3"),
    ],
    "real_310B1_23.0.rc3.txt": [
        (0, 0, 0, "310B1", "OK", (7356, 11577), (None, None), 9.0, 57, "Ascend310B1"),
    ],
    "real_910_first_gen_named_910B_23.0.rc2.txt": [
        (0, 0, None, "910B", "OK", (1452, 15137), (1, 32768), 69.4, 35, "Ascend910B"),
    ],
    "real_910B4_25.5.2.txt": [
        (5, 0, None, "910B4", "OK", (0, 0), (2922, 32768), 89.9, 39, "Ascend910B4"),
    ],
    "real_A3_Ascend910_24.1.rc3.7.txt": [
        (0, 0, 0, "Ascend910", "OK", (0, 0), (3451, 65536), 175.0, 39, None),
        (0, 1, 1, "Ascend910", "OK", (0, 0), (3215, 65536), None, 38, None),
    ],
}
Write = Callable[[str], None]


@pytest.fixture
def tables(fixtures: Path) -> Path:
    return fixtures / "ascend" / "npu_smi"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A stub npu-smi first on PATH: a shell script with the body that the test gives."""

    def write(body: str) -> None:
        program = tmp_path / "npu-smi"
        program.write_text(f"#!/bin/sh\n# stub for npu-smi\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return write


def test_every_table_of_the_fixtures_has_its_expected_npus(tables: Path) -> None:
    assert {path.name for path in tables.glob("*.txt")} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_npus_of_each_layout(tables: Path, name: str) -> None:
    found = [
        (
            *(npu.id, npu.chip, npu.device, npu.name, npu.health),
            (npu.memory_used_mb, npu.memory_total_mb),
            (npu.hbm_used_mb, npu.hbm_total_mb),
            *(npu.power_w, npu.temperature_c, npu.soc_version),
        )
        for npu in parse_npu_smi((tables / name).read_text())
    ]
    assert found == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_cut_anywhere_gives_a_prefix_of_its_npus_or_is_refused(tables: Path, name: str) -> None:
    text = (tables / name).read_text()
    whole = parse_npu_smi(text)
    for end in range(0, len(text), 7):
        try:
            part = parse_npu_smi(text[:end])
        except BadDataError:
            continue
        assert part == whole[: len(part)]


def test_processes_are_not_npus_even_where_their_rows_look_alike(tables: Path) -> None:
    text = (tables / "real_310P3_modelzoo_22.x.txt").read_text()
    processes = (
        "| NPU     Chip              | Process id      | Process name             | Process memory(MB)        |\n"
        "+===================+=================+======================================================+\n"
        "| 0       310       | 293029          | python3.11               | 6612                      |\n"
        "| 1       0         | 0000:82:00.0    | 0            1074 / 21534                            |\n"
        "| No running processes found in NPU 1                                                      |\n"
    )
    assert len(parse_npu_smi(text + processes)) == 2


def test_an_unhealthy_npu_keeps_what_its_row_says() -> None:
    (npu,) = parse_npu_smi(
        "| NPU     Name      | Health  | Power(W)  Temp(C)  Hugepages-Usage(page) |\n"
        "| Chip    Device    | Bus-Id  | AICore(%)  Memory-Usage(MB) |\n"
        "| 3       310P3     | Alarm   | NA        NA       0 / 0 |\n"
        "| 0       2         | NA      | NA        NA / NA |\n"
    )
    assert (npu.id, npu.device, npu.health, npu.power_w, npu.memory_total_mb) == (
        3,
        2,
        "Alarm",
        None,
        None,
    )
    assert npu.soc_version == "Ascend310P3"


def test_a_machine_without_npus_has_none() -> None:
    assert parse_npu_smi("| NPU  Name | Health | Power(W) |\n| Chip Device | Bus-Id | AICore(%) |\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dcmi model initialized failed, because the device is used. ret is -8020",
        "| NPU  Name | Health | Power |\n| 0  310P3 | OK | 1.0 40 0 / 0 |\n| 0 0 | NA | nothing |\n",
        "| NPU  Name | Health | Power |\n| 0  310P3 | OK | 1.0 40 0 / 0 |\n",
        f"| NPU  Name | Health | Power |\n| {'9' * 5000}  310P3 | OK | 1 40 |\n| 0 0 | NA | 0 1 / 2 |\n",
        f"| NPU  Name | Health | Power |\n| 0 310P3 | OK | 1 40 |\n| 0 0 | NA | 0 {'9' * 5000} / {'9' * 5000} |\n",
    ],
)
def test_what_is_no_whole_table_is_refused(text: str) -> None:
    with pytest.raises(BadDataError, match="npu-smi"):
        parse_npu_smi(text)


@pytest.mark.slow
@given(st.lists(st.text(alphabet="| 0319PNAame/OK.+=\n", max_size=60)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadDataError):
        parse_npu_smi("| NPU     Name   | Health |\n" + text)


def test_the_a3_says_what_to_ask_instead_of_guessing(tables: Path) -> None:
    npus = parse_npu_smi((tables / "real_A3_Ascend910_24.1.rc3.7.txt").read_text())
    assert "npu-smi info -t board -i 0 -c 1" in npus[1].remark
    with pytest.raises(UsageError, match="Chip Name"):
        common_soc_version(npus)


def test_npus_of_one_kind_share_a_soc_version_and_mixed_ones_do_not(tables: Path) -> None:
    duo = parse_npu_smi((tables / "real_310P3_duo_25.0.rc1.1.txt").read_text())
    assert common_soc_version(duo) == "Ascend310P3"
    with pytest.raises(UsageError, match="Ascend310B1, Ascend310P3"):
        common_soc_version((*duo, *parse_npu_smi((tables / "real_310B1_23.0.rc3.txt").read_text())))
    with pytest.raises(UnavailableError, match="--soc_version"):
        common_soc_version(())


def test_npus_come_from_the_npu_smi_on_path(tables: Path, stub: Write) -> None:
    table = tables / "real_310P3_duo_25.0.rc1.1.txt"
    stub(f'[ "$*" = info ] || exit 9\ncat {table}')
    assert list_npus() == parse_npu_smi(table.read_text())


@pytest.mark.parametrize(("allowed", "count"), [(None, 2), ("1", 1), ("0,1,2", 2), ("", 0)])
def test_the_environment_limits_the_npus(
    tables: Path, stub: Write, monkeypatch: pytest.MonkeyPatch, allowed: str | None, count: int
) -> None:
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    assert visible_npus() == 0
    stub(f"cat {tables / 'real_310P3_modelzoo_22.x.txt'}")
    if allowed is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", allowed)
    assert visible_npus() == count


def test_no_npu_smi_is_lacking_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="driver"):
        list_npus()


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (
            "echo 'dcmi module initialize failed. ret is -8005' >&2; exit 1",
            "code 1: dcmi module initialize failed",
        ),
        ("echo hello", "has no complete table"),
        ("printf '\\377\\376 not text'", "has no complete table"),
        ("exit 0", "has no complete table"),
        ("while :; do echo 0123456789012345678901234567890123456789; done", "more than 1048576 bytes"),
        ("kill -9 $$", "code -9: it printed nothing"),
    ],
)
def test_an_npu_smi_that_does_not_answer_properly_has_failed(stub: Write, body: str, output: str) -> None:
    stub(body)
    with pytest.raises(ExternalToolError) as failure:
        list_npus(seconds=10)
    assert output in str(failure.value)


def test_a_hanging_npu_smi_is_killed_with_its_children(stub: Write, tmp_path: Path) -> None:
    stub(f"sleep 600 &\necho $! > {tmp_path}/child\nwait")
    with pytest.raises(ExternalToolError, match="had not ended after 0.5 s and was killed"):
        list_npus(seconds=0.5)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if _ended(child):
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} is still running")


def _ended(process: int) -> bool:
    """Whether a process is gone, or a zombie that its adopter has yet to bury."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
