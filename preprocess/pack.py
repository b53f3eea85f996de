"""Pack labelled videos into a clip store: `python preprocess/pack.py --recipe tsm_sthv2 ...`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from preprocess.datasets.annotations import Annotation
from preprocess.datasets.sample_list import list_samples
from preprocess.pack_groups import Group, StoreDtype, pack_group, store_header
from vidom.command import run
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes
from vidom.folder_lock import locked_folder
from vidom.formats.clip_store import ClipStore, Skipped, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option, read_options
from vidom.parallel.ray_cluster import open_ray_cluster, ray_option
from vidom.parallel.workers import block_size, each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["PackOptions", "main", "pack"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Pack labelled videos or frame folders into a clip store."""

    recipe: Recipe = recipe_option()
    data_root: Path = option("folder that the paths of the list are relative to")
    ann_file: Path = option("list with `dir frames label` or `video label` per line; .json: packs")
    output_dir: Path = option("folder for the clip store")
    batch_size: int = option("samples per file; 1 serves every batch size", default=1)
    per_view: bool = option(
        "write each view to a separate file, for models exported with --per_view", default=False
    )
    dtype: StoreDtype = option(
        "uint8: a quarter of the bytes; aipp: uint8 with channels last, for an NPU's AIPP (experimental)",
        default="float32",
    )
    workers: int | None = option("processes that decode (default: one per core)", default=None)
    limit: int | None = option("pack only the first N samples of the list", metavar="N", default=None)
    on_bad: Literal["fail", "skip"] = option("stop at an unreadable video, or skip it", default="fail")
    ray: str | None = ray_option()

    def __post_init__(self) -> None:
        if any(value is not None and value < 1 for value in (self.batch_size, self.workers, self.limit)):
            raise UsageError("--batch_size, --workers and --limit must be at least 1.")
        if self.per_view and self.batch_size > 1:
            raise UsageError(
                f"--per_view puts a single view into each file, which contradicts --batch_size {self.batch_size}. "
                "Omit --batch_size: files of one view serve every batch size."
            )
        if self.per_view and self.recipe.views.frame_size:
            raise UsageError(
                "--per_view writes each view separately, but with the recipe's views.frame_size the graph cuts the "
                "views. Omit one of the two."
            )


def pack(options: PackOptions) -> ClipStore:
    """Pack the samples of the list into a clip store in `output_dir` and return it.

    Groups of samples that an earlier, interrupted run finished are kept, and the bytes are the same as without the
    interruption. With `per_view` a worker needs the memory of about one view.

    Raises UnavailableError before the first write if the disk is too small or another process packs into the folder,
    BadDataError at the first unreadable video unless `on_bad` is "skip", and UsageError as `Recipe.labels` does, if
    the folder holds a store made with different settings or anything but a store, for `per_view` of samples that are a
    single view already, and for "aipp" of samples that are not image sequences.
    """
    with locked_folder(options.output_dir):
        return _pack(options)


def _pack(options: PackOptions) -> ClipStore:
    workers = options.workers or usable_cores()
    labels = options.recipe.labels()
    annotations = list_samples(options.ann_file, data_root=options.data_root, recipe=options.recipe)
    annotations = annotations[: options.limit]
    header = store_header(
        options.recipe,
        annotations,
        batch_size=options.batch_size,
        per_view=options.per_view,
        dtype=options.dtype,
    )
    writer = ClipStoreWriter(options.output_dir, header)
    groups = list(_unfinished(writer, annotations, options))
    _check_space(header, annotations, groups, options.output_dir)
    with (
        open_ray_cluster(options.ray, cores=workers, shared=options.output_dir, needs=(options.data_root,))
        if options.ray and groups
        else nullcontext() as cluster,
        progress(total=len(annotations), unit="sample", label="pack", done=len(writer.finished)) as bar,
    ):
        at_once = block_size(len(groups), workers=workers)
        for packed in each_finished(pack_group, groups, workers=workers, at_once=at_once, cluster=cluster):
            if packed.skipped and options.on_bad == "fail":
                raise _unreadable(packed.skipped)
            writer.add(packed)
            bar.update(len(packed.samples) + len(packed.skipped))
    if not writer.samples:
        listing = _listing(list(writer.skipped.values()))
        raise BadDataError(f"None of the {len(annotations)} videos could be read:\n{listing}")
    writer.finish(labels, options.recipe.dataset.info_name)
    return ClipStore.open(options.output_dir)


def _unfinished(
    writer: ClipStoreWriter, annotations: Sequence[Annotation], options: PackOptions
) -> Iterator[Group]:
    size, finished = writer.header.samples_per_file, writer.finished
    entries = enumerate(annotations)
    while chunk := tuple(islice(entries, size)):
        if not all(position in finished for position, _ in chunk):
            views = range(writer.header.views_per_sample)
            paths = tuple(writer.clips / writer.file_name(chunk[0][0], view) for view in views)
            yield Group(paths, chunk, options.data_root, options.recipe, writer.header)


def _check_space(
    header: StoreHeader, annotations: Sequence[Annotation], groups: Sequence[Group], output_dir: Path
) -> None:
    """Log what will be written; raise UnavailableError if it does not fit on the disk."""
    files, free = len(groups) * header.views_per_sample, free_bytes(output_dir)
    needed = files * header.file_bytes
    views = f"{header.views_per_sample} views of " if header.views_per_sample > 1 else ""
    shape = views + "x".join(map(str, header.shape))
    _log.info(
        f"{len(annotations)} samples of {shape} {header.dtype}, {human_bytes(header.sample_bytes)} each; "
        f"{files} files to write, {human_bytes(needed)}; {human_bytes(free)} free."
    )
    if needed > free:
        fits = free // (header.file_bytes * header.views_per_sample) * header.samples_per_file
        raise UnavailableError(
            f"The clip store needs {human_bytes(needed)}, but only {human_bytes(free)} are free on the disk of "
            f"{output_dir}. Use a larger disk, --limit {fits} for the samples that fit"
            + (", or --dtype uint8 for a quarter of the bytes." if header.dtype == "float32" else ".")
        )


def _unreadable(skipped: Sequence[Skipped]) -> BadDataError:
    first = skipped[0]
    return BadDataError(
        f"Sample {first.index} of the list ({first.id}) cannot be read. {first.reason} Finished files are kept. Fix "
        "the video and rerun the command, or use --on_bad skip to continue without it."
    )


def _listing(skipped: Sequence[Skipped]) -> str:
    return "\n".join(f"  {skip.index} {skip.id}: {skip.reason}" for skip in skipped)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, pack, and print the path of the store."""
    store = pack(read_options(PackOptions, argv))
    if store.skipped:
        _log.warning(
            f"{len(store.skipped)} of {len(store.skipped) + len(store.samples)} videos were skipped:\n"
            f"{_listing(store.skipped)}"
        )
    _log.info(f"{len(store.samples)} samples in {len(store.files)} files.")
    print(store.folder)


if __name__ == "__main__":
    run(main)
