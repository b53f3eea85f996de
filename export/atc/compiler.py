"""ATC as an external process: runs in its own folder, with its complete output logged and its result checked."""

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
    """The end of an ATC process: exit code (negative: the signal), seconds, the tail of its output."""

    code: int
    seconds: float
    timed_out: bool
    output: str

    @property
    def banner(self) -> bool:
        """Whether ATC reported success."""
        return SUCCESS in self.output


def run_atc(
    command: Sequence[str],
    *,
    folder: Path,
    log_file: Path,
    time_limit: float | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> AtcRun:
    """Run the command with `folder` as its working folder and log its complete output in `log_file`.

    Each line is passed to `on_line` as it is printed. After `time_limit` seconds, and when this process is interrupted,
    the command and all its child processes are stopped. Raises ExternalToolError when it cannot be started.
    """
    (ended,) = run_streamed(
        [Job(command, log_file, folder)],
        on_output=lambda _job, _stream, text: on_line(text.rstrip()),
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

    A build succeeds only if ATC exits 0, reports success and writes the model; ATC's own wrappers show that one of
    these alone is not reliable. Raises ExternalToolError with a paragraph for each error code and the files left.
    """
    models = [path for path in built_models(folder, name) if path.stat().st_size]
    if run.code == 0 and run.banner and models and not run.timed_out:
        return models[0]
    paragraphs = [_failure(run), *explain(run.output), _leftovers(folder, log_file)]
    raise ExternalToolError("\n".join(paragraphs))


def _failure(run: AtcRun) -> str:
    if run.timed_out:
        return f"ATC reached the --time_limit after {run.seconds:.0f} s and was stopped with its child processes."
    if run.code < 0:
        return (
            f"ATC was killed by signal {-run.code} after {run.seconds:.0f} s; signal 9 usually means that the machine "
            "ran out of memory. TE_PARALLEL_COMPILER=1 and MAX_COMPILE_CORE_NUMBER=1 reduce its memory use."
        )
    if run.code:
        return f"ATC failed with exit code {run.code} after {run.seconds:.0f} s."
    if not run.banner:
        return f"ATC exited with code 0 but did not report `{SUCCESS}`, so its output is not trusted."
    return f"ATC exited with code 0 and reported `{SUCCESS}`, but the .om is missing or empty."


def _leftovers(folder: Path, log_file: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    left = ", ".join(names[:12]) or "nothing"
    return f"Its complete output is in {log_file}; files left in {folder}: {left}. No NPU was used."
