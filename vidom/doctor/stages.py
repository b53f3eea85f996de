"""What each stage needs of a machine, and whether what was found is enough: no files, no processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from vidom.system.ais_bench_probe import AisBench
from vidom.system.cann import Cann, atc_remedy
from vidom.system.machine import Machine
from vidom.system.npu import Card
from vidom.system.requirements import Requirement

__all__ = ["STAGES", "Findings", "Outlook", "Stage", "judge"]

Need = Literal["venv", "atc", "card", "cann", "ais_bench", "umask"]


@dataclass(frozen=True)
class Stage:
    """A stage, the line that runs it, the packages it imports and what else it needs."""

    name: str
    make: str
    packages: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()


_NUMBERS = ("numpy", "tqdm")
_BASE = (*_NUMBERS, "pydantic", "pyyaml")
_VIDEO = ("av", "opencv-python-headless", "pillow")
_GRAPHS = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
STAGES: tuple[Stage, ...] = (
    Stage("setup", "make setup", (), ("venv",)),
    Stage("demo", "make demo", _BASE + _VIDEO + _GRAPHS),
    Stage(
        "test",
        "make test",
        _BASE + _VIDEO + _GRAPHS + ("pytest", "pytest-timeout", "hypothesis", "setuptools"),
    ),
    Stage("lint", "make lint", ("ruff", "mypy")),
    Stage("preprocess", "make preprocess", _BASE + _VIDEO),
    Stage("export", "make export", _BASE + _GRAPHS),
    Stage("om", "make om", (*_BASE, "onnx", "onnx-ir", "onnxscript"), ("atc",)),
    Stage("infer-onnxruntime", "make infer ENGINE=onnxruntime", (*_NUMBERS, "onnxruntime")),
    Stage("infer-openvino", "make infer ENGINE=openvino", (*_NUMBERS, "openvino")),
    Stage("infer-ascend", "make infer ENGINE=ascend", _NUMBERS, ("card", "cann", "ais_bench", "umask")),
    Stage("score", "make score", _NUMBERS),
    Stage("predict", "make predict", (*_BASE, *_VIDEO, "onnxruntime")),
)


@dataclass(frozen=True)
class Findings:
    """What was found; where a program could not be asked, the reason stands in its `…_problem`.

    `requirements` is None where vidom is not installed in this interpreter. `packages` maps every package of
    STAGES to its installed version or None.
    """

    python: str
    executable: str
    requires_python: str
    python_fits: bool
    can_make_venv: bool
    requirements: Mapping[str, Requirement] | None
    packages: Mapping[str, str | None]
    machine: Machine
    cards: tuple[Card, ...]
    npu_problem: str
    cann: Cann | None
    atc: str | None
    ais_bench: AisBench | None
    ais_problem: str

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
    """Return the outlook of one stage on what was found."""
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


def _card(findings: Findings) -> Iterator[str]:
    if findings.npu_problem:
        yield findings.npu_problem
    elif not findings.cards:
        yield "npu-smi shows no NPU: seat the card, or hand the container its /dev/davinci* devices"


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


def _umask(findings: Findings) -> Iterator[str]:
    if findings.machine.umask & 0o022 != 0o022:
        yield "umask 022  (ais_bench refuses files and folders that the group or others may write)"


_NEEDS = {"venv": _venv, "atc": _atc, "card": _card, "cann": _cann, "ais_bench": _ais_bench, "umask": _umask}


def _remarks(stage: Stage, findings: Findings) -> Iterator[str]:
    if "atc" in stage.needs:
        if not findings.cards:
            yield "no card here tells the soc_version: give SOC=, for instance SOC=310P3"
        if findings.cann is not None and (findings.cann.release or (0, 0)) >= (8, 5):
            yield f"CANN {findings.cann.version} needs the chip's ops package beside the toolkit"
    if "card" in stage.needs:
        for card in findings.cards:
            if card.health != "OK":
                yield f"NPU {card.id} chip {card.chip} reports health {card.health}"
