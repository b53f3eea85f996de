"""Install the locked packages into the environment of this interpreter: `.venv/bin/python -m vidom.setup_environment`.

torch is kept apart from the other packages: its wheel, and with it its hash, differs by index, and on x86-64 the
default index serves a build with several GB of CUDA packages. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

__all__ = ["cpu_index_answers", "main"]

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_ROOT = Path(__file__).resolve().parents[1]
_PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
_SECONDS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Install torch, the packages of requirements.lock held to their hashes, and vidom itself; return pip's status."""
    parser = argparse.ArgumentParser(description="Install the locked packages.")
    parser.add_argument("--torch", choices=("cpu", "cuda"), default="cpu", help="which build of torch")
    parser.add_argument(
        "pip_args", nargs="*", help="further arguments of pip, after --; they choose torch's index"
    )
    options = parser.parse_args(argv)
    torch, index = _torch_source(options.torch, given=bool(options.pip_args))
    lock = _ROOT / "requirements.lock"
    count = sum(not line.startswith(("#", " ")) for line in lock.read_text(encoding="utf-8").splitlines())
    print(f"Installing {torch}, and up to {count} packages (about 300 MB) from {lock.name}.", flush=True)
    steps = (
        (*index, *options.pip_args, "-r", str(_ROOT / "requirements-torch.lock")),
        ("--no-deps", "--require-hashes", *options.pip_args, "-r", str(lock)),
        ("--no-deps", "--no-build-isolation", "--editable", str(_ROOT)),
    )
    return next(
        (code for step in steps if (code := subprocess.run([*_PIP, *step], check=False).returncode)), 0
    )


def _torch_source(build: str, *, given: bool) -> tuple[str, tuple[str, ...]]:
    """Return torch's build in words, and the arguments of pip that select its index."""
    if given:
        return "torch from the index that PIP_ARGS selects", ()
    if build == "cuda":
        return "torch with CUDA (several GB)", ()
    if cpu_index_answers():
        return f"torch for the CPU (about 200 MB) from {CPU_INDEX}", ("--no-deps", "--index-url", CPU_INDEX)
    warning = (
        "" if platform.machine() == "aarch64" else "; on x86-64 that may be the CUDA build of several GB"
    )
    return f"torch from pip's default index, since {CPU_INDEX} does not answer{warning}", ()


def cpu_index_answers(index: str = CPU_INDEX) -> bool:
    """Return whether the index of CPU builds answers within a few seconds."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    sys.exit(main())
