"""ATC as an outside process: run in a folder of its own, its output kept whole, judged by what it left."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.atc.error_codes import explain
from vidom.errors import ExternalToolError
from vidom.system.external_run import Job, run_streamed

__all__ = ["AtcRun", "built_models", "judge", "run_atc"]

SUCCESS = "ATC run success"


@dataclass(frozen=True)
class AtcRun:
    """How an ATC process ended: exit code (negative: the signal), seconds, the end of what it printed."""

    code: int
    seconds: float
    timed_out: bool
    output: str

    @property
    def banner(self) -> bool:
        """Whether it said that it succeeded."""
        return SUCCESS in self.output


def run_atc(
    command: Sequence[str],
    *,
    folder: Path,
    log_file: Path,
    time_limit: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> AtcRun:
    """The command has ended, run with `folder` as working folder, and `log_file` holds all that it printed.

    Each line is handed to `tell` as it comes. After `time_limit` seconds, and when this process is interrupted, the
    command and all it started are stopped. Raises ExternalToolError when it cannot be started.
    """
    (ended,) = run_streamed(
        [Job(command, log_file, folder)],
        tell=lambda _job, _stream, text: tell(text.rstrip()),
        time_limit=time_limit,
    )
    return AtcRun(ended.code, ended.seconds, ended.timed_out, ended.output)


def built_models(folder: Path, name: str) -> tuple[Path, ...]:
    """Return the models that ATC may have written for `--output=name`: `name.om`, then `name_<os>_<processor>.om`.

    ATC adds system and processor when it puts libraries of the host into the model (ge, model_helper.cc).
    """
    pattern = re.compile(re.escape(name) + r"(_[a-z]+_(x86_64|aarch64))?\.om")
    found = (path for path in folder.iterdir() if pattern.fullmatch(path.name) and path.is_file())
    return tuple(sorted(found, key=lambda path: (len(path.name), path.name)))


def judge(run: AtcRun, *, folder: Path, name: str, log_file: Path) -> Path:
    """Return the model that `run` has built in `folder`.

    It succeeded when it ended with code 0, said so, and the model is there; ATC's own wrappers show that one of these
    alone says little. Raises ExternalToolError with a paragraph for each coded error and the names of what was left.
    """
    models = [path for path in built_models(folder, name) if path.stat().st_size]
    if run.code == 0 and run.banner and models and not run.timed_out:
        return models[0]
    paragraphs = [_failure(run), *explain(run.output), _left(folder, log_file)]
    raise ExternalToolError("\n".join(paragraphs))


def _failure(run: AtcRun) -> str:
    if run.timed_out:
        return f"ATC had not ended after {run.seconds:.0f} s, the --time_limit, and was stopped with all it started."
    if run.code < 0:
        return (
            f"ATC was ended by signal {-run.code} after {run.seconds:.0f} s; signal 9 mostly means that the machine "
            "had no memory left. TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1 make it need less."
        )
    if run.code:
        return f"ATC failed with code {run.code} after {run.seconds:.0f} s."
    if not run.banner:
        return f"ATC ended with code 0 but never said `{SUCCESS}`, so what it left is not trusted."
    return f"ATC ended with code 0 and said `{SUCCESS}`, but the .om is not there, or empty."


def _left(folder: Path, log_file: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    left = ", ".join(names[:12]) or "nothing"
    return f"Its whole output is in {log_file}; left in {folder}: {left}. No NPU was used."
