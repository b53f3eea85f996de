"""A small training on frames that are in the repository, and its command."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidom.options import read_options

if TYPE_CHECKING:
    from train.outputs.run_report import Outcome

# Starts processes in which torch is imported already.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["train.training", "matplotlib.figure", "torch.utils.tensorboard"])

FIXTURES = Path(__file__).parents[2] / "fixtures"
FRAMES = FIXTURES / "synth"
SETTINGS = {
    "network.depth": "10",
    "network.base_channels": "8",
    "views.short_side": "48",
    "views.crop_size": "40",
    "dataset.num_classes": "3",
    "train.epochs": "3",
    "train.batch_size": "2",
    "train.segments": "4",
    "train.crop_size": "40",
}


def write_list(path: Path, *, count: int = 7) -> Path:
    """Write a list of `count` folders of frames with three classes."""
    folders = sorted(FRAMES.iterdir())[:count]
    lines = [f"{folder.name} {len(list(folder.iterdir()))} {i % 3}" for i, folder in enumerate(folders)]
    path.write_text("\n".join(lines) + "\n")
    return path


def words(ann_file: Path, out: Path, *more: str, recipe: str = "tsm_ucf101", **settings: str) -> list[str]:
    """Return the words of `python -m train`; `settings` are recipe entries with __ for the dot."""
    changed = SETTINGS | {key.replace("__", "."): value for key, value in settings.items()}
    sets = [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    return [
        *("--recipe", recipe, *sets),
        *("--data_root", str(FRAMES), "--ann_file", str(ann_file), "--val_ann", str(ann_file)),
        *("--output_dir", str(out), "--workers", "0", *more),
    ]


def train_here(ann_file: Path, out: Path, *more: str, **settings: str) -> Outcome:
    """Train in this process with the words that `words` makes of the arguments."""
    from train.train_options import TrainOptions
    from train.training import train

    return train(read_options(TrainOptions, words(ann_file, out, *more, **settings), prog="train"))


@dataclass(frozen=True)
class Done:
    """How a process ended; negative exit codes are signals."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def message(self) -> str:
        """What stderr says, without the line breaks, which depend on the lengths of paths."""
        return " ".join(self.stderr.split())


def command(*arguments: str, killed_at: int = 0) -> Done:
    """Run `python -m train` with these words in a process of its own, killed at that rename or log line."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(arguments, killed_at, sender))
    process.start()
    sender.close()
    try:
        stdout, stderr = receiver.recv()
    except EOFError:
        stdout = stderr = ""
    process.join()
    return Done(process.exitcode or 0, stdout, stderr)


def _run(arguments: tuple[str, ...], killed_at: int, sender: Connection) -> None:
    if killed_at:
        _kill(killed_at)
    from train.training import main
    from vidom.command import run

    sys.argv = ["train", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            run(main)
        finally:
            sender.send((out.getvalue(), err.getvalue()))


def _kill(number: int) -> None:
    """Have this process killed before the rename or the line of the log with this number."""
    from train.outputs import run_log

    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    run_log.append_line = counted(run_log.append_line)
