"""What each stage needs of a machine, and whether the findings suffice: no files, no processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Literal

from vidom.system.ais_bench_probe import AisBench
from vidom.system.cann import Cann, atc_remedy
from vidom.system.cann_onnx_runtime import CannOnnxRuntime
from vidom.system.machine import Machine
from vidom.system.npu import Chip
from vidom.system.requirements import Requirement

__all__ = ["Findings", "Outlook", "Stage", "judge", "stages"]

Need = Literal["venv", "atc", "npu", "cann", "ais_bench", "cann_onnx_runtime", "umask"]


@dataclass(frozen=True)
class Stage:
    """A stage, the line that runs it, the packages it imports and what else it needs."""

    name: str
    make: str
    packages: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()


_DECLARED_BY = ("vidom.doctor", "demo", "preprocess", "export", "infer", "postprocess", "train")


@lru_cache(maxsize=None)  # noqa: UP033 - the doctor runs on Python 3.8
def stages() -> tuple[Stage, ...]:
    """Return the stages that the packages declare in their module `needs`, which import the standard library only."""
    return tuple(stage for package in _DECLARED_BY for stage in import_module(f"{package}.needs").STAGES)


@dataclass(frozen=True)
class Findings:
    """What was detected; where a program could not be asked, its `…_problem` is the reason.

    `requirements` is None where vidom is not installed in this interpreter. `packages` maps every package of
    the stages to its installed version or None; `torch_npu` is that of torch-npu, which no stage needs on a CPU.
    """

    python: str
    executable: str
    requires_python: str
    python_fits: bool
    can_make_venv: bool
    requirements: Mapping[str, Requirement] | None
    packages: Mapping[str, str | None]
    machine: Machine
    npus: tuple[Chip, ...]
    npu_problem: str
    cann: Cann | None
    atc: str | None
    ais_bench: AisBench | None
    ais_problem: str
    cann_onnx_runtime: CannOnnxRuntime | None
    cann_onnx_runtime_problem: str
    torch_npu: str | None

    def requirement(self, name: str) -> Requirement:
        """Return what vidom declares of a package; any version will do where it declares nothing."""
        return (self.requirements or {}).get(name, Requirement(name, "", ""))


@dataclass(frozen=True)
class Outlook:
    """Whether a stage is possible here: `remedies` are what makes it so, in order, and empty when it is."""

    stage: Stage
    remedies: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether nothing that the stage needs is missing."""
        return not self.remedies


def judge(stage: Stage, findings: Findings) -> Outlook:
    """Return the outlook of one stage, given the findings."""
    remedies = [*_python_and_packages(stage, findings)]
    for need in stage.needs:
        remedies += _NEEDS[need](findings)
    return Outlook(stage, tuple(dict.fromkeys(remedies)), tuple(_remarks(stage, findings)))


def _python_and_packages(stage: Stage, findings: Findings) -> Iterator[str]:
    if not findings.python_fits:
        yield f"make distclean setup PYTHON=python3.10  (any Python {findings.requires_python})"
        return
    if not stage.packages:
        return
    if findings.requirements is None:
        yield "make setup"
        return
    lacking = [
        requirement
        for requirement in (findings.requirement(name) for name in stage.packages)
        if not requirement.met_by(findings.packages.get(requirement.name))
    ]
    if lacking:
        wanted = " ".join(f'"{requirement}"' for requirement in lacking)
        yield f"{findings.executable} -m pip install {wanted}"


def _venv(findings: Findings) -> Iterator[str]:
    if not findings.can_make_venv:
        yield "install the venv module of this Python (Debian, Ubuntu: apt-get install python3-venv)"


def _atc(findings: Findings) -> Iterator[str]:
    if findings.atc is None:
        yield atc_remedy(findings.cann)


def _npu(findings: Findings) -> Iterator[str]:
    if findings.npu_problem:
        yield findings.npu_problem
    elif not findings.npus:
        yield "npu-smi shows no NPU: reseat the card, or pass /dev/davinci* to the container"


def _cann(findings: Findings) -> Iterator[str]:
    if findings.cann is None:
        yield atc_remedy(None)
    elif not findings.cann.active:
        script = findings.cann.set_env
        yield f"source {script}" if script else f"source the set_env.sh of {findings.cann.home}"


def _ais_bench(findings: Findings) -> Iterator[str]:
    if findings.ais_bench is None:
        yield findings.ais_problem
    else:
        yield from findings.ais_bench.problems


def _cann_onnx_runtime(findings: Findings) -> Iterator[str]:
    if findings.cann_onnx_runtime is None:
        yield findings.cann_onnx_runtime_problem
    else:
        yield from findings.cann_onnx_runtime.problems


def _umask(findings: Findings) -> Iterator[str]:
    if findings.machine.umask & 0o022 != 0o022:
        yield "umask 027  (ais_bench refuses files and folders that the group or others may write)"


_NEEDS = {
    "venv": _venv,
    "atc": _atc,
    "npu": _npu,
    "cann": _cann,
    "ais_bench": _ais_bench,
    "cann_onnx_runtime": _cann_onnx_runtime,
    "umask": _umask,
}


def _remarks(stage: Stage, findings: Findings) -> Iterator[str]:
    if "atc" in stage.needs:
        if not findings.npus:
            yield "soc_version cannot be detected without a device: give SOC=, for instance SOC=310P3"
        if findings.cann is not None and (findings.cann.release or (0, 0)) >= (8, 5):
            yield f"CANN {findings.cann.version} needs the chip's ops package in addition to the toolkit"
    if "npu" in stage.needs:
        for npu in findings.npus:
            if npu.health != "OK":
                yield f"NPU {npu.id} chip {npu.chip} reports health {npu.health}"
