"""Pack labelled videos into a clip store: `python preprocess/pack.py --recipe tsm_sthv2 ...`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from preprocess.datasets.annotations import Annotation
from preprocess.datasets.sample_list import list_digest, list_samples
from preprocess.pack_groups import Group, pack_group
from preprocess.tensors.samples import decoder_name
from vidom.command import Parser, run
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes
from vidom.formats.aipp import aipp_of
from vidom.formats.clip_store import ClipStore, Skipped, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter
from vidom.formats.recipe import Recipe, load_recipe
from vidom.parallel.ray_cluster import add_ray_option, open_ray_cluster
from vidom.parallel.workers import block_size, each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["StoreDtype", "main", "pack", "store_header"]

_log = logging.getLogger(__name__)

StoreDtype = Literal["float32", "uint8", "aipp"]
OnBad = Literal["fail", "skip"]


def pack(
    *,
    recipe: Recipe,
    data_root: Path,
    ann_file: Path,
    output_dir: Path,
    batch_size: int = 1,
    per_view: bool = False,
    dtype: StoreDtype = "float32",
    workers: int = 1,
    limit: int | None = None,
    on_bad: OnBad = "fail",
    ray: str | None = None,
) -> ClipStore:
    """Return the clip store in `output_dir`, holding the first `limit` samples of the list.

    `batch_size` samples go into one file; with `per_view` each view of a sample has a file of its own, the
    manifest says how their scores are averaged, and a worker's memory is that of about one view. The `dtype` "aipp" is
    uint8 with channels last, for an NPU whose AIPP normalises pictures. Work that an
    earlier, killed run finished is kept, and the bytes are the same as if it had not been killed. `ray` is a
    cluster's address, or "local", whose workers then pack (see `vidom.parallel.ray_cluster`). Raises UnavailableError
    before the first write when the disk is too small, BadDataError at the first unreadable video unless `on_bad` is
    "skip", UsageError when the folder holds a store made with other settings, and for `per_view` of samples that
    are a single view already and "aipp" of samples that are no row of pictures.
    """
    if batch_size < 1 or workers < 1 or (limit is not None and limit < 1):
        raise UsageError("--batch_size, --workers and --limit must be at least 1.")
    if per_view and batch_size > 1:
        raise UsageError(
            f"--per_view puts a single view into each file, which contradicts --batch_size {batch_size}. Leave "
            "--batch_size out: files of one view serve every batch size."
        )
    if per_view and recipe.views.frame_size:
        raise UsageError(
            "--per_view writes each view by itself, but the recipe's views.frame_size leaves the cutting of views to "
            "the graph. Leave one of the two out."
        )
    annotations = list_samples(ann_file, data_root=data_root, recipe=recipe)[:limit]
    header = store_header(recipe, annotations, batch_size=batch_size, per_view=per_view, dtype=dtype)
    writer = ClipStoreWriter(output_dir, header)
    groups = list(_unfinished(writer, annotations, data_root, recipe))
    _announce(header, annotations, groups, output_dir)
    with (
        open_ray_cluster(ray, cores=workers, shared=output_dir, needs=(data_root,))
        if ray and groups
        else nullcontext() as cluster,
        progress(total=len(annotations), unit="sample", label="pack", done=len(writer.finished)) as bar,
    ):
        at_once = block_size(len(groups), workers=workers)
        for packed in each_finished(pack_group, groups, workers=workers, at_once=at_once, cluster=cluster):
            if packed.skipped and on_bad == "fail":
                raise _unreadable(packed.skipped)
            writer.add(packed.files, packed.samples, packed.skipped)
            bar.update(len(packed.samples) + len(packed.skipped))
    if not writer.samples:
        raise BadDataError(
            f"None of the {len(annotations)} videos could be read:\n{_listing(list(writer.skipped.values()))}"
        )
    writer.finish(recipe.labels(), recipe.dataset.info_name)
    return ClipStore.open(output_dir)


def store_header(
    recipe: Recipe, annotations: Sequence[Annotation], *, batch_size: int, per_view: bool, dtype: StoreDtype
) -> StoreHeader:
    """Return what all tensors have in common of a store that is packed from these samples.

    Raises UsageError as `pack` does for `per_view` and "aipp".
    """
    plan = (recipe.one_view() if per_view else recipe).views
    shape = plan.sample_shape
    layout: str = "frames" if plan.frame_size else plan.layout
    if dtype == "aipp":
        frames, (channels, height, width) = aipp_of(plan).frames_per_sample, shape[1:]
        shape, layout = (frames, height, width, channels), "NHWC"
    return StoreHeader(
        recipe=recipe.name,
        recipe_sha256=recipe.digest,
        list_sha256=list_digest(annotations),
        dtype="float32" if dtype == "float32" else "uint8",
        shape=shape,
        layout=layout,
        normalised=dtype == "float32",
        samples_per_file=batch_size,
        decoder=decoder_name(annotations[0], recipe.views.pipeline),
        views_per_sample=recipe.views.clips if per_view else 1,
        average_clips=recipe.head.average_clips if per_view else "",
    )


def _unfinished(
    writer: ClipStoreWriter, annotations: Sequence[Annotation], data_root: Path, recipe: Recipe
) -> Iterator[Group]:
    size, finished = writer.header.samples_per_file, writer.finished
    entries = enumerate(annotations)
    while chunk := tuple(islice(entries, size)):
        if not all(position in finished for position, _ in chunk):
            views = range(writer.header.views_per_sample)
            paths = tuple(writer.clips / writer.file_name(chunk[0][0], view) for view in views)
            yield Group(paths, chunk, data_root, recipe, writer.header)


def _announce(
    header: StoreHeader, annotations: Sequence[Annotation], groups: Sequence[Group], output_dir: Path
) -> None:
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
            f"The clip store needs {human_bytes(needed)}, but only {human_bytes(free)} are free where {output_dir} "
            f"lies. Use a larger disk, --limit {fits} for the samples that fit"
            + (", or --dtype uint8 for a quarter of the bytes." if header.dtype == "float32" else ".")
        )


def _unreadable(skipped: Sequence[Skipped]) -> BadDataError:
    first = skipped[0]
    return BadDataError(
        f"Sample {first.index} of the list ({first.id}) can not be read. {first.reason} What was packed so far is "
        "kept. Repair the video and run the same command again, or use --on_bad skip to go on without it."
    )


def _listing(skipped: Sequence[Skipped]) -> str:
    return "\n".join(f"  {skip.index} {skip.id}: {skip.reason}" for skip in skipped)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, pack, and print the store's path."""
    parser = Parser(description="Pack labelled videos or frame folders into a clip store.")
    parser.add_argument("--recipe", required=True, help="name in om_models/ or path of a .yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe entry"
    )
    parser.add_argument(
        "--data_root", type=Path, required=True, help="folder that the list's paths are relative to"
    )
    parser.add_argument(
        "--ann_file",
        type=Path,
        required=True,
        help="`dir frames label` or `video label` a line; .json: packs",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="where the clip store goes")
    parser.add_argument(
        "--batch_size", type=int, default=1, help="samples per file; 1 serves every batch size"
    )
    parser.add_argument(
        "--per_view", action="store_true", help="a file for each view, for models exported with --per_view"
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(StoreDtype),
        default="float32",
        help="uint8: a quarter of the bytes; aipp: the same, channels last, for an NPU's AIPP (experimental)",
    )
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes that decode")
    parser.add_argument("--limit", type=int, help="only the first samples of the list")
    parser.add_argument(
        "--on_bad", choices=("fail", "skip"), default="fail", help="what an unreadable video does"
    )
    add_ray_option(parser)
    options = vars(parser.parse_args(argv))
    recipe = load_recipe(options.pop("recipe"), options.pop("set"))
    store = pack(recipe=recipe, **options)
    if store.skipped:
        _log.info(f"{len(store.skipped)} of {len(store.skipped) + len(store.samples)} videos were skipped:")
        _log.info(_listing(store.skipped))
    _log.info(f"{len(store.samples)} samples in {len(store.files)} files.")
    print(store.folder)


if __name__ == "__main__":
    run(main)
