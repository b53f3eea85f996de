"""Train on data of an object store: `python -m train.modelarts --data_url obs://… --train_url obs://… --recipe …`.

The boot file of a ModelArts job, which passes `--data_url` and `--train_url`; it serves any S3 store:

    WORK_DIR/data/         what lies below data_url, archives unpacked
    WORK_DIR/training/     the run (see `train.training`), copied to train_url while it trains and at the end

Where train_url holds the run of an earlier job, it is fetched and continued, on the same machine or a different one.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.interruption import delayed_interruption
from train.modelarts.object_store import RemoteFolder, fetch, send
from vidom.command import Parser, run
from vidom.errors import BadDataError, UnavailableError
from vidom.folder_lock import locked_folder
from vidom.options import add_options, option, options_from
from vidom.unpacking import path_inside

__all__ = ["ModelArtsOptions", "main"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelArtsOptions:
    """Fetch data from an object store, train, and copy the results back. Other options go to `vidom train`."""

    data_url: str = option("folder or archive of the store with videos or frames and their lists")
    train_url: str = option("folder of the store for the results; a run that it holds is continued")
    pre_url: str | None = option("object of the store with the weights to begin from", default=None)
    endpoint_url: str | None = option("address of the store (default: AWS_ENDPOINT_URL)", default=None)
    ann_file: str = option("training list inside data_url")
    val_ann: str | None = option("validation list inside data_url", default=None)
    data_root: str = option("folder inside data_url that the training list is relative to", default=".")
    val_root: str | None = option("the same of the validation list (default: --data_root)", default=None)
    work_dir: Path = option("folder of this machine for data and results", default=Path("run/modelarts"))
    send_every: float = option("seconds between two copies to train_url", default=60.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return the exit code of the training."""
    parser = Parser(prog="python -m train.modelarts", description=ModelArtsOptions.__doc__ or "")
    add_options(parser, ModelArtsOptions)
    known, rest = parser.parse_known_args(argv)
    options = options_from(ModelArtsOptions, vars(known))
    data, training = options.work_dir / "data", options.work_dir / "training"
    results = RemoteFolder(options.train_url, options.endpoint_url)
    with locked_folder(options.work_dir):
        if not fetch(RemoteFolder(options.data_url, options.endpoint_url), data):
            raise BadDataError(f"There is nothing at {options.data_url}.")
        if not (training / "last.pth").exists():
            fetch(results, training, last=_is_checkpoint)
        words = [*_words(options, data, training), *rest]
        return _trained(words, training, results, options.send_every)


def _words(options: ModelArtsOptions, data: Path, training: Path) -> list[str]:
    """Return the options of `vidom train` for files of this machine."""
    inside = {
        name: path_inside(data, value)
        for name in ("ann_file", "val_ann", "data_root", "val_root")
        if (value := getattr(options, name)) is not None
    }
    if options.pre_url:
        folder = options.work_dir / "pretrained"
        if not fetch(RemoteFolder(options.pre_url, options.endpoint_url), folder):
            raise BadDataError(f"There is nothing at {options.pre_url}.")
        inside["checkpoint"] = folder / options.pre_url.rsplit("/", 1)[-1]
    inside["output_dir"] = training
    return [word for name, path in inside.items() for word in (f"--{name}", str(path))]


def _trained(words: Sequence[str], training: Path, results: RemoteFolder, send_every: float) -> int:
    """Train in a process of its own, copy its folder while it runs and after its end, and return its exit code."""
    with (
        delayed_interruption() as interruption,
        subprocess.Popen([sys.executable, "-m", "train", *words]) as process,
    ):
        sent = time.monotonic()
        while process.poll() is None:
            if interruption.requested:
                process.terminate()
                process.wait()
            elif time.monotonic() - sent > send_every and training.exists():
                try:
                    send(training, results, last=_is_checkpoint)
                except UnavailableError as error:
                    _log.warning(f"The results are copied later. {error}")
                sent = time.monotonic()
            else:
                time.sleep(0.2)
        if training.exists():
            send(training, results, last=_is_checkpoint)
            _log.info(f"The results are at {results.url}.")
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _is_checkpoint(name: str) -> bool:
    return name.endswith(".pth")


if __name__ == "__main__":
    run(main)
