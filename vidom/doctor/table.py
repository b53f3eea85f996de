"""The doctor's findings as rows of check, status and value, and as one aligned table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vidom.doctor.stages import Findings, Outlook, stages
from vidom.files import human_bytes
from vidom.system.cann_onnx_runtime import PROVIDER
from vidom.system.npu import Chip

__all__ = ["Row", "rows_of", "table"]

Verdict = Literal["pass", "warn", "missing"]


@dataclass(frozen=True)
class Row:
    """One check: the value, whether it suffices, and what is required."""

    topic: str
    found: str
    verdict: Verdict
    remark: str = ""


def rows_of(findings: Findings) -> tuple[Row, ...]:
    """Return one row for each check, from the interpreter to the NPUs."""
    return (
        *_python(findings),
        *_packages(findings),
        *_machine(findings),
        *_npus(findings),
        *_cann(findings),
        *_ais_bench(findings),
        *_cann_onnx_runtime(findings),
        *_torch_npu(findings),
    )


def _python(findings: Findings) -> Iterator[Row]:
    yield Row(
        "Python",
        f"{findings.python} ({findings.executable})",
        "pass" if findings.python_fits else "missing",
        f"{findings.requires_python} for all stages",
    )
    if findings.requirements is None:
        yield Row(
            "vidom", "not installed in this Python", "missing", "so no versions to hold packages against"
        )


def _packages(findings: Findings) -> Iterator[Row]:
    for name, installed in findings.packages.items():
        requirement = findings.requirement(name)
        users = ", ".join(stage.name for stage in stages() if name in stage.packages)
        found = "absent" if installed is None else installed
        yield Row(
            name,
            found,
            "pass" if requirement.met_by(installed) else "missing",
            f"{requirement.versions or 'any'} for {users}",
        )


def _machine(findings: Findings) -> Iterator[Row]:
    machine = findings.machine
    yield Row("processor", f"{machine.processor} ({machine.architecture})", "pass")
    yield Row("cores", f"{machine.cores_usable} usable of {machine.cores}", "pass")
    yield Row("memory", human_bytes(machine.memory_bytes), "pass")
    yield Row("disk", f"{human_bytes(machine.disk_free_bytes)} free", "pass", machine.disk_folder)
    tight = machine.umask & 0o022 == 0o022
    yield Row(
        "umask",
        f"{machine.umask:03o}",
        "pass" if tight else "warn",
        "" if tight else "new files can be written by others than their owner; ais_bench refuses such files",
    )


def _npus(findings: Findings) -> Iterator[Row]:
    if findings.npu_problem:
        yield Row("npu-smi", "no answer", "missing", findings.npu_problem.split(". ")[0].rstrip("."))
        return
    yield Row("npu-smi", f"{len(findings.npus)} chips", "pass" if findings.npus else "missing")
    for npu in findings.npus:
        good = npu.health == "OK" and npu.soc_version is not None
        yield Row(f"NPU {npu.id} chip {npu.chip}", _npu(npu), "pass" if good else "warn", npu.remark)


def _npu(npu: Chip) -> str:
    parts = [npu.name, f"health {npu.health}"]
    for used, total, what in (
        (npu.memory_used_mb, npu.memory_total_mb, "memory"),
        (npu.hbm_used_mb, npu.hbm_total_mb, "HBM"),
    ):
        if total:
            parts.append(f"{what} {'?' if used is None else used} of {total} MB used")
    if npu.power_w is not None:
        parts.append(f"{npu.power_w:g} W")
    if npu.temperature_c is not None:
        parts.append(f"{npu.temperature_c:g} °C")
    return ", ".join([*parts, f"soc_version {npu.soc_version or 'unknown'}"])


def _cann(findings: Findings) -> Iterator[Row]:
    cann = findings.cann
    if cann is None:
        yield Row(
            "CANN", "absent", "missing", "no environment variable names it and no default folder holds it"
        )
    else:
        source = f", by {cann.version_file}" if cann.version_file else ""
        yield Row(
            "CANN",
            f"{cann.version or 'version unknown'} in {cann.home}",
            "pass" if cann.active and cann.version else "warn",
            f"found by {cann.found_by}{source}"
            + ("" if cann.active else "; set_env.sh is not sourced in this shell"),
        )
    yield Row("atc", findings.atc or "not on PATH", "pass" if findings.atc else "missing", "for om")


def _ais_bench(findings: Findings) -> Iterator[Row]:
    probed = findings.ais_bench
    if probed is None:
        reason = findings.ais_problem.split(". ")[0].rstrip(".")
        yield Row("ais_bench's Python", "no answer", "missing", reason)
        return
    runs = not probed.problems
    yield Row(
        "ais_bench's Python",
        f"{probed.python} ({probed.interpreter})",
        "pass" if runs or probed.has_wheels else "missing",
        "the wheels of aclruntime are for 3.7 to 3.12, those of 0.0.3 up to 3.13",
    )
    for topic, found in (("aclruntime", probed.aclruntime), ("ais_bench", probed.ais_bench)):
        yield Row(topic, found or "absent", "pass" if found else "missing", "any for infer-ascend")
    if probed.ais_bench:
        reason = probed.failure or "its help does not have the options of ais_bench"
        yield Row("  starts", "yes" if runs else "no", "pass" if runs else "missing", "" if runs else reason)


def _cann_onnx_runtime(findings: Findings) -> Iterator[Row]:
    probed = findings.cann_onnx_runtime
    if probed is None:
        reason = findings.cann_onnx_runtime_problem.split(". ")[0].rstrip(".")
        yield Row("onnxruntime-cann", "no answer", "missing", reason)
        return
    there = PROVIDER in probed.providers
    absent = f"not found: {', '.join(probed.absent)}" if probed.absent else ""
    yield Row(
        "onnxruntime-cann",
        f"{probed.version if there else 'absent'} ({probed.interpreter})",
        "missing" if probed.problems else "pass",
        (absent if there else probed.failure) or "any for infer-cann",
    )


def _torch_npu(findings: Findings) -> Iterator[Row]:
    if findings.torch_npu is None:
        return
    active = findings.cann is not None and findings.cann.active
    unusable = "cannot be imported: CANN is absent or its set_env.sh is not sourced; "
    yield Row(
        "torch-npu",
        findings.torch_npu,
        "pass" if active else "warn",
        ("" if active else unusable) + "for train and infer-torch on an NPU; torch loads it for nothing else",
    )


def table(rows: Sequence[Row], outlooks: Sequence[Outlook]) -> str:
    """Return one aligned table: a line for each row, then for each stage `possible here` or what makes it so."""
    cells = [("check", "status", "value", "")]
    cells += [(row.topic, row.verdict, row.found, row.remark) for row in rows]
    cells += [("", "", "", ""), ("stage", "status", "command", "")]
    for outlook in outlooks:
        said = ("possible here",) if outlook.possible else outlook.remedies
        lines = [*said, *(f"note: {remark}" for remark in outlook.remarks)]
        judged = "pass" if outlook.possible else "missing"
        cells.append((outlook.stage.name, judged, outlook.stage.make, lines[0]))
        cells += [("", "", "", line) for line in lines[1:]]
    topic, verdict, found = (max(len(line[column]) for line in cells) for column in range(3))
    return "\n".join(f"{a:{topic}}  {b:{verdict}}  {c:{found}}  {d}".rstrip() for a, b, c, d in cells)
