"""`make doctor`: which stages this machine can run, and the exact command that enables each of the others.

Needs nothing that may be absent: the standard library and vidom's own modules, no package. External
programs (`npu-smi`, the interpreter of ais_bench) are asked under a time limit. Nothing is run on an NPU.
Its modules run on Python 3.8 already, so that an old system Python can report what it lacks.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidom.command import Parser, run
from vidom.doctor.stages import Findings, Outlook, judge, stages
from vidom.doctor.table import Row, rows_of, table
from vidom.errors import UnavailableError, UserError
from vidom.system.ais_bench_probe import AisBench, probe_ais_bench
from vidom.system.cann import find_atc, find_cann
from vidom.system.cann_onnx_runtime import CannOnnxRuntime, probe_cann_onnx_runtime
from vidom.system.machine import look_at_machine
from vidom.system.npu import Chip, list_npus
from vidom.system.requirements import declared_requirements, installed_version, satisfies

__all__ = ["NOTE", "Report", "doctor", "main"]

NOTE = (
    "Checked: this Python and its packages, the machine, `npu-smi info`, the environment and default folders "
    "of CANN, PATH, and the Pythons of ais_bench and onnxruntime-cann (AIS_PYTHON, CANN_PYTHON, else this "
    "one). No model was run and nothing here "
    "was measured on an NPU; values of an NPU are those that npu-smi printed."
)
_FALLBACK_PYTHON = ">=3.10"


@dataclass(frozen=True)
class Report:
    """The findings, row by row, and the outlook of every stage."""

    findings: Findings
    rows: tuple[Row, ...]
    outlooks: tuple[Outlook, ...]

    def document(self) -> dict[str, Any]:
        """Return the report for `--json`: lists and numbers instead of sentences where there are any."""
        findings = self.findings
        return {
            "schema": 1,
            "note": NOTE,
            "checks": [asdict(row) for row in self.rows],
            "machine": asdict(findings.machine),
            "cards": [{**asdict(npu), "soc_version": npu.soc_version} for npu in findings.npus],
            "cann": None
            if findings.cann is None
            else {
                "home": str(findings.cann.home),
                "found_by": findings.cann.found_by,
                "version": findings.cann.version,
                "sourced": findings.cann.active and findings.atc is not None,
                "set_env": None if findings.cann.set_env is None else str(findings.cann.set_env),
            },
            "atc": findings.atc,
            "ais_bench": None if findings.ais_bench is None else asdict(findings.ais_bench),
            "cann_onnx_runtime": None
            if findings.cann_onnx_runtime is None
            else asdict(findings.cann_onnx_runtime),
            "torch_npu": findings.torch_npu,
            "stages": [
                {
                    "stage": outlook.stage.name,
                    "make": outlook.stage.make,
                    "possible": outlook.possible,
                    "remedies": outlook.remedies,
                    "remarks": outlook.remarks,
                }
                for outlook in self.outlooks
            ],
        }


def doctor(*, environ: Mapping[str, str] | None = None, seconds: float = 20.0) -> Report:
    """Return what was detected on this machine and the outlook of every stage; nothing is changed.

    `seconds` bounds each external program; `environ`, the process's own by default, is where CANN, AIS_PYTHON
    and CANN_PYTHON are looked up.
    """
    declared = declared_requirements()
    requirements, requires_python = declared or (None, _FALLBACK_PYTHON)
    npus, npu_problem = _npus(seconds)
    ais_bench, ais_problem = _ais_bench(environ, seconds)
    cann_onnx_runtime, cann_problem = _cann_onnx_runtime(environ, seconds)
    atc = find_atc(environ=environ)
    findings = Findings(
        python=platform.python_version(),
        executable=sys.executable,
        requires_python=requires_python,
        python_fits=satisfies(platform.python_version(), requires_python),
        can_make_venv=find_spec("venv") is not None and find_spec("ensurepip") is not None,
        requirements=requirements,
        packages={name: installed_version(name) for stage in stages() for name in stage.packages},
        machine=look_at_machine(Path.cwd()),
        npus=npus,
        npu_problem=npu_problem,
        cann=find_cann(environ=environ),
        atc=None if atc is None else str(atc),
        ais_bench=ais_bench,
        ais_problem=ais_problem,
        cann_onnx_runtime=cann_onnx_runtime,
        cann_onnx_runtime_problem=cann_problem,
        torch_npu=installed_version("torch-npu"),
    )
    outlooks = tuple(judge(stage, findings) for stage in stages())
    return Report(findings, rows_of(findings), outlooks)


def _npus(seconds: float) -> tuple[tuple[Chip, ...], str]:
    try:
        return list_npus(seconds=seconds), ""
    except UserError as error:
        return (), str(error)


def _ais_bench(environ: Mapping[str, str] | None, seconds: float) -> tuple[AisBench | None, str]:
    try:
        return probe_ais_bench(environ=environ, seconds=seconds), ""
    except UserError as error:
        return None, str(error)


def _cann_onnx_runtime(
    environ: Mapping[str, str] | None, seconds: float
) -> tuple[CannOnnxRuntime | None, str]:
    try:
        return probe_cann_onnx_runtime(environ=environ, seconds=seconds), ""
    except UserError as error:
        return None, str(error)


def main(argv: Sequence[str] | None = None) -> int | None:
    """Print the table or the JSON; raises UnavailableError when a stage of `--need` is impossible here."""
    parser = Parser(
        prog="python -m vidom.doctor",
        description="What hardware and tools are here, and which stages they allow.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument(
        "--need",
        nargs="+",
        default=[],
        metavar="STAGE",
        type=lambda text: text.replace("_", "-"),
        choices=[stage.name for stage in stages()],
        help="exit 3 unless these are possible: " + ", ".join(stage.name for stage in stages()),
    )
    options = parser.parse_args(argv)
    report = doctor()
    print(
        json.dumps(report.document(), indent=2, ensure_ascii=False)
        if options.json
        else table(report.rows, report.outlooks) + f"\n\n{NOTE}",
        flush=True,
    )
    lacking = [o for o in report.outlooks if o.stage.name in options.need and not o.possible]
    if lacking:
        raise UnavailableError(
            "Not possible here: "
            + "; ".join(f"{o.stage.name}, which needs: {', then '.join(o.remedies)}" for o in lacking)
        )
    return None


if __name__ == "__main__":
    run(main)
