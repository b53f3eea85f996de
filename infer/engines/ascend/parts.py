"""The input split among the devices: one process of ais_bench for each, on complete batches of its own.

ais_bench accepts `--device 0,1` itself, but then runs all files on every device unless `--divide_input` is given,
which older versions do not have (they always divide), opens device 0 in any case, and waits forever for a worker that
was killed. So each device has its own process here, with hard links to its files as input: links take no space, keep
owner and mode, and are not symbolic links, which ais_bench refuses.

    {output}/{dirname}/device{d}_{i}/              outputs, as ais_bench names them with several devices
    {output}/{dirname}/device{d}_{i}_summary.json
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infer.batches.batch_plan import BatchPlan, InputFile
from infer.batches.run_folder import RunFolder
from infer.infer_options import InferOptions
from vidom.errors import UsageError
from vidom.system.ais_bench_probe import AisBench

__all__ = ["Part", "part_command", "parts_of"]

Entries = tuple[tuple[InputFile, ...], ...]


@dataclass(frozen=True)
class Part:
    """The work of one process: its device, the files in execution order, and its arguments.

    Without files `entries` is empty and `input` None; without results `output`, `dirname` and `log` are None.
    """

    device: int
    entries: Entries
    input: str | None
    output: str | None
    dirname: str | None
    log: Path | None

    @property
    def summary(self) -> Path | None:
        """The file that ais_bench writes this part's summary to."""
        return None if self.output is None else Path(self.output) / f"{self.dirname}_summary.json"

    @property
    def outputs(self) -> Path | None:
        """The folder that ais_bench writes this part's outputs to."""
        return None if self.output is None else Path(self.output) / f"{self.dirname}"


@contextmanager
def parts_of(
    options: InferOptions, devices: tuple[int, ...], batches: BatchPlan | None, places: RunFolder | None
) -> Iterator[tuple[Part, ...]]:
    """Yield a part for each of the devices that gets any files; their links are removed afterwards.

    Raises UsageError for several devices where results would not be distinct or links cannot be created.
    """
    if len(devices) == 1:
        output, dirname = (str(options.output), options.output_dirname) if places else (None, None)
        entries, log = batches.entries if batches else (), places.log() if places else None
        yield (Part(devices[0], entries, _typed(options), output, dirname, log),)
    elif batches is None:
        if places:
            raise UsageError(
                "Without --input each of several devices runs the same loop, so there are no results to keep: leave "
                "--output out."
            )
        yield tuple(Part(device, (), None, None, None, None) for device in devices)
    elif places is None:
        raise UsageError(
            "Several devices share the files of --input, whose results need a folder: give --output and "
            "--output_dirname."
        )
    else:
        shares = _shares(batches, len(devices))
        with _linked(shares, places) as folders:
            yield tuple(
                Part(device, share, folder, places.prefix, f"device{device}_{number}", places.log(device))
                for number, (device, share, folder) in enumerate(zip(devices, shares, folders, strict=False))
            )


def part_command(bench: AisBench, options: InferOptions, part: Part) -> list[str]:
    """Return the command of the published guide for one part, with the options that differ from the default.

    They are spelled as this ais_bench spells them. Raises UsageError for one that it does not have.
    """
    given = {
        "--model": options.model,
        "--input": part.input,
        "--output": part.output,
        "--output_dirname": part.dirname,
        "--outfmt": options.outfmt if part.output else None,
        "--loop": options.loop if options.loop != 1 else None,
        "--warmup_count": options.warmup_count if options.warmup_count != 1 else None,
        "--device": part.device,
        "--batchsize": options.batchsize,
        "--dymBatch": options.dym_batch,
        "--output_batchsize_axis": options.output_batchsize_axis or None,
        "--pure_data_type": options.pure_data_type if options.pure_data_type != "zero" else None,
        "--display_all_summary": options.display_all_summary or None,
        "--debug": options.debug or None,
    }
    words = [bench.interpreter, "-m", "ais_bench"]
    for name, value in given.items():
        if value is not None:
            words += bench.spelled(name, value)
    return words


def _typed(options: InferOptions) -> str | None:
    if options.input is None or isinstance(options.input, str):
        return options.input
    return ",".join(map(str, [options.input] if isinstance(options.input, Path) else options.input))


def _shares(batches: BatchPlan, devices: int) -> list[Entries]:
    """Return the entries split into consecutive complete batches, a share for each device that gets any."""
    size, more = divmod(batches.runs, devices)
    shares, start = [], 0
    for number in range(devices):
        end = start + (size + (number < more)) * batches.files_per_batch
        shares.append(batches.entries[start:end])
        start = end
    return [share for share in shares if share]


@contextmanager
def _linked(shares: Sequence[Entries], places: RunFolder) -> Iterator[list[str]]:
    """Yield a folder for each share with hard links to its files."""
    prefix = f".{places.folder.name}-parts-"
    # Hard links cannot cross file systems: next to the results, else next to the clips.
    homes = (places.folder.parent, Path(shares[0][0][0].path).absolute().parent.parent)
    for home in homes:
        for leftover in home.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(leftover)
    root, folders = _linked_folders(shares, homes, prefix)
    try:
        yield folders
    finally:
        shutil.rmtree(root)


def _linked_folders(shares: Sequence[Entries], homes: Sequence[Path], prefix: str) -> tuple[Path, list[str]]:
    reason = ""
    for home in homes:
        root = None
        try:
            root = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
            return root, _link(shares, root)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            if root:
                shutil.rmtree(root)
    raise UsageError(
        f"Several devices need hard links to the input files, which could not be created ({reason}). Put --output on "
        "the disk that holds the files, or use one device."
    )


def _link(shares: Sequence[Entries], root: Path) -> list[str]:
    folders = []
    for number, share in enumerate(shares):
        folder = root / str(number)
        folder.mkdir(mode=0o700)
        for (file,) in share:
            os.link(file.path, folder / Path(file.path).name)
        folders.append(str(folder))
    return folders
