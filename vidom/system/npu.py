"""Which NPUs are here, by `npu-smi info`, and the names ATC knows their chips by.

The table's layouts and the rule from a chip's name to its soc_version are those of Huawei's `npu-smi` and
ATC manuals (`--soc_version`). Nothing here opens a device.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError, UserError
from vidom.system.external_query import ask

__all__ = [
    "SOC_VERSIONS",
    "Chip",
    "common_soc_version",
    "list_npus",
    "normalise_soc_version",
    "parse_npu_smi",
    "visible_npus",
]

PREFIX = "Ascend"
SOC_VERSIONS: tuple[str, ...] = tuple(
    PREFIX + name
    for name in (
        *("310", "310B1", "310B2", "310B3", "310B4"),
        *("310P1", "310P2", "310P3", "310P4", "310P5", "310P7"),
        *("310P3Vir01", "310P3Vir02", "310P3Vir04", "310P3Vir08"),
        *("910A", "910B", "910ProA", "910ProB", "910PremiumA"),
        *("910B1", "910B2", "910B2C", "910B3", "910B4", "910B4-1"),
        *("910_9362", "910_9372", "910_9381", "910_9382", "910_9391", "910_9392"),
    )
)
"""The names `--soc_version` takes; a lone `910B` is the first generation, `910B1` and on are the second."""

# The process list that follows the NPUs has its own header; its rows would parse as NPUs.
_CARDS_HEAD = re.compile(r"\|\s*NPU\s+Name\s*\|")
_PROCESSES_HEAD = re.compile(r"\|\s*NPU\s+Chip\s*\|")
_NAME_ROW = re.compile(r"\|\s*(\d{1,6})\s+([A-Za-z]*\d{3}[\w-]*)\s*\|([\w /-]*)\|([^|]*)\|", re.ASCII)
_CHIP_ROW = re.compile(r"\|\s*(\d{1,6})(?:\s+(\d{1,6}))?\s*\|[^|]*\|([^|]*)\|", re.ASCII)
_ANY_ROW = re.compile(r"\|\s*\d", re.ASCII)
_USAGE = re.compile(r"(?<!\S)(\d{1,9}|NA|-)\s*/\s*(\d{1,9}|NA|-)(?!\S)", re.ASCII)


@dataclass(frozen=True)
class Chip:
    """One chip of one NPU as `npu-smi info` shows it; a duo device is one NPU id with two chips.

    `device` is the number in the column Device or Phy-ID, None in layouts without one. Memory is in MB, power
    in watts, temperature in degrees Celsius; None where the table shows `NA`, `-` or no such column.
    `soc_version` is None where it does not follow from the name (`remark` then says what to do).
    """

    id: int
    chip: int
    device: int | None
    name: str
    health: str
    memory_used_mb: int | None
    memory_total_mb: int | None
    hbm_used_mb: int | None
    hbm_total_mb: int | None
    power_w: float | None
    temperature_c: float | None

    @property
    def soc_version(self) -> str | None:
        """`Ascend` + name where that is a name ATC takes; the A3's `Ascend910` is not."""
        return _known().get(_bare(self.name))

    @property
    def remark(self) -> str:
        """What to do where the soc_version does not follow from the name; else empty."""
        if self.soc_version:
            return ""
        if _bare(self.name) == "910":
            return (
                f"{self.name} is all the table says of an A3. Type `npu-smi info -t board -i {self.id} "
                f"-c {self.chip}` and give --soc_version as its Chip Name, an underscore and its NPU Name, "
                "as in Ascend910_9391."
            )
        return f"{self.name} is a chip that vidom does not know; give --soc_version."


def parse_npu_smi(text: str) -> tuple[Chip, ...]:
    """Return the chips in the order of the table that `npu-smi info` prints; none is an empty tuple.

    Reads the layouts of 310, 310P and 310B (Memory-Usage), of 910 (HBM-Usage next to it) and of A3, at any
    column width, and stops at the list of processes. Raises BadDataError when there is no such table in `text`
    or a chip's second row is missing or unreadable.
    """
    chips: list[Chip] = []
    within = False
    first: re.Match[str] | None = None
    for line in text.splitlines():
        if _PROCESSES_HEAD.match(line):
            break
        if _CARDS_HEAD.match(line):
            within = True
        elif within and first is not None:
            chips.append(_chip(first, line))
            first = None
        elif within:
            first = _NAME_ROW.match(line)
            if first is None and _ANY_ROW.match(line):
                raise BadDataError(f"npu-smi's table has a row that names no chip: {line[:120]!r}.")
    if not within or first is not None:
        raise BadDataError(
            "The output of npu-smi has no complete table of NPUs: expected a header `| NPU  Name | Health | …` "
            f"and two rows for each chip, found {len(chips)} complete chips in {len(text)} characters beginning "
            f"{text[:60]!r}. Type `npu-smi info` by hand and look."
        )
    return tuple(chips)


def _chip(first: re.Match[str], line: str) -> Chip:
    npu, name, health, readings = first.groups()
    power, temperature = [*readings.split(), "-", "-"][:2]
    second = _CHIP_ROW.match(line)
    usages = _USAGE.findall(second.group(3)) if second else []
    if second is None or not usages:
        raise BadDataError(
            f"npu-smi's table breaks off at NPU {npu} ({name}): expected a row with chip, bus and memory, "
            f"found {line[:120]!r}."
        )
    (used, total), (hbm_used, hbm_total) = [*usages, ("-", "-")][:2]
    return Chip(
        id=int(npu),
        chip=int(second.group(1)),
        device=_whole(second.group(2) or "-"),
        name=name,
        health=health.strip() or "unknown",
        memory_used_mb=_whole(used),
        memory_total_mb=_whole(total),
        hbm_used_mb=_whole(hbm_used),
        hbm_total_mb=_whole(hbm_total),
        power_w=_decimal(power),
        temperature_c=_decimal(temperature),
    )


def _whole(cell: str) -> int | None:
    return int(cell) if cell.isdigit() else None


def _decimal(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", cell, re.ASCII) else None


def _bare(name: str) -> str:
    return re.sub(f"^{PREFIX}", "", name.strip(), flags=re.IGNORECASE).lower()


def _known() -> dict[str, str]:
    return {_bare(name): name for name in SOC_VERSIONS}


def normalise_soc_version(text: str) -> str:
    """Return the name ATC takes for `310P3`, `Ascend310P3` or `ascend310p3`: here `Ascend310P3`.

    Raises UsageError, naming the nearest and all legal names, for anything else.
    """
    known, asked = _known(), _bare(text)
    if asked in known:
        return known[asked]
    near = difflib.get_close_matches(asked, known, n=1, cutoff=0.5)
    hint = f" Did you mean {known[near[0]]}?" if near else ""
    board = " An A3 is Chip Name_NPU Name of `npu-smi info -t board -i ID -c CHIP`." if asked == "910" else ""
    raise UsageError(
        f"invalid soc_version {text!r}.{hint}{board} It is Ascend and the Name that `npu-smi info` shows; "
        f"legal are {', '.join(SOC_VERSIONS)}, each with or without the prefix."
    )


def list_npus(*, seconds: float = 20.0) -> tuple[Chip, ...]:
    """Return what `npu-smi info` shows now; the program has ended or was killed after `seconds`.

    Raises UnavailableError when npu-smi is not on PATH, ExternalToolError when it fails, hangs, prints more than a
    table can hold or something that is not its table.
    """
    program = shutil.which("npu-smi")
    if program is None:
        raise UnavailableError(
            "npu-smi is not on PATH. It comes with the Ascend NPU driver: install driver and firmware from "
            "https://www.hiascend.com/hardware/firmware-drivers, or, in a container, mount the host's "
            "npu-smi and /usr/local/Ascend/driver; it is often in /usr/local/sbin or /usr/local/bin."
        )
    answer = ask([program, "info"], seconds=seconds)
    if answer.code:
        raise ExternalToolError(
            f"`{program} info` ended with code {answer.code}: {answer.last_words() or 'it printed nothing'}. "
            "Check that the driver is loaded, that the device is not held by another container and that this "
            "user is in the group that owns /dev/davinci*."
        )
    try:
        return parse_npu_smi(answer.output)
    except BadDataError as error:
        raise ExternalToolError(str(error)) from None


def visible_npus() -> int:
    """Return how many chips npu-smi shows and ASCEND_RT_VISIBLE_DEVICES allows; 0 where npu-smi does not answer."""
    try:
        shown = len(list_npus())
    except UserError:
        return 0
    allowed = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    return shown if allowed is None else min(shown, len(allowed.split(",")) if allowed else 0)


def common_soc_version(chips: Iterable[Chip]) -> str:
    """Return the one soc_version that all `chips` share.

    Raises UnavailableError when there is no NPU, UsageError when they differ or the name does not determine it.
    """
    chosen = tuple(chips)
    if not chosen:
        raise UnavailableError("npu-smi shows no NPU here; give --soc_version, for instance Ascend310P3.")
    for chip in chosen:
        if chip.soc_version is None:
            raise UsageError(chip.remark)
    names = sorted({chip.soc_version for chip in chosen if chip.soc_version})
    if len(names) > 1:
        raise UsageError(f"The NPUs here are of {len(names)} kinds ({', '.join(names)}); give --soc_version.")
    return names[0]
