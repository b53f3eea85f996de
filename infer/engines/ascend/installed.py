"""The versions that a run on the NPU depends on, as installed on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from vidom.errors import UnavailableError, UserError
from vidom.system.ais_bench_probe import AisBench, probe_ais_bench
from vidom.system.cann import find_cann
from vidom.system.npu import common_soc_version, list_npus

__all__ = ["Installed", "installed", "working_ais_bench"]


@dataclass(frozen=True)
class Installed:
    """ais_bench in its Python, CANN's version and the chip (soc_version), both None where unknown."""

    bench: AisBench
    cann: str | None
    chip: str | None

    @property
    def versions(self) -> str:
        """The versions of everything that takes part in a run, for a reader."""
        return (
            f"ais_bench {self.bench.ais_bench}, aclruntime {self.bench.aclruntime}, "
            f"CANN {self.cann or 'of unknown version'}"
        )


def installed(bench: AisBench | None = None) -> Installed:
    """Return what is installed; `bench` is the answer of `probe_ais_bench` if it was asked before."""
    cann = find_cann()
    return Installed(bench or probe_ais_bench(), cann.version if cann else None, _chip())


def working_ais_bench() -> AisBench:
    """Return the ais_bench of this machine; UnavailableError if it cannot run."""
    bench = probe_ais_bench()
    if bench.problems:
        raise UnavailableError(
            f"The Python of ais_bench, {bench.interpreter}, cannot run it. Run: {'; then '.join(bench.problems)}"
        )
    return bench


def _chip() -> str | None:
    try:
        return common_soc_version(list_npus())
    except UserError:
        return None
