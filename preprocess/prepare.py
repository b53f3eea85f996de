"""From downloads to lists for evaluation: `python preprocess/prepare.py --dataset sthv2 ...`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocess.datasets.class_folders import locate_class_folders
from preprocess.datasets.extraction_run import OnBad, extract_all
from preprocess.datasets.frame_extraction import Extracted, ExtractionSettings
from preprocess.datasets.frame_pack_writer import write_packs
from preprocess.datasets.kinetics400 import locate_kinetics400
from preprocess.datasets.prepared import (
    PreparedSplit,
    count_extracted,
    extraction_jobs,
    prepared_split,
    write_labels,
    write_lists,
    write_record,
)
from preprocess.datasets.splits import DataSet, Source, Split
from preprocess.datasets.sthv2 import locate_sthv2
from preprocess.datasets.ucf101 import locate_ucf101, locate_ucf101_66
from preprocess.sources.decoding import Decoder
from vidom.command import run
from vidom.errors import BadDataError, UsageError
from vidom.folder_lock import locked_folder
from vidom.options import option, read_options
from vidom.parallel.ray_cluster import RayCluster, open_ray_cluster, ray_option
from vidom.system.machine import usable_cores

__all__ = ["DATA_SETS", "DataSetName", "PrepareOptions", "main", "prepare"]

_log = logging.getLogger(__name__)

# A byte of a frame takes one or two bytes in a pack, one and a half on average.
_SPACE_WITH_PACKS = 2.5


@dataclass(frozen=True)
class _DataSetDefaults:
    """How a data set is located, and its default settings, which are those of mmaction2's scripts."""

    locate: Callable[[Source], DataSet]
    num_classes: int | None = None
    short_side: int = 0
    on_bad: OnBad = "fail"


DataSetName = Literal["sthv2", "ucf101", "ucf101_66", "kinetics400", "folder"]

DATA_SETS: dict[DataSetName, _DataSetDefaults] = {
    "sthv2": _DataSetDefaults(locate_sthv2, num_classes=174),
    "ucf101": _DataSetDefaults(locate_ucf101, num_classes=101),
    "ucf101_66": _DataSetDefaults(locate_ucf101_66, num_classes=66),
    # Videos disappear from YouTube every day, so the complete set no longer exists.
    "kinetics400": _DataSetDefaults(locate_kinetics400, num_classes=400, short_side=256, on_bad="skip"),
    "folder": _DataSetDefaults(locate_class_folders),
}


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Turn a downloaded data set into frames, lists and label files."""

    dataset: DataSetName = option("data set whose official layout --src has")
    src: Path = option("folder of the downloads; never written to")
    out: Path = option("folder for frames, lists and label files")
    class_list: Path | None = option("class names in id order, one per line", default=None)
    num_classes: int | None = option(
        "class count of the checkpoint (default: that of the data set)", default=None
    )
    short_side: int | None = option(
        "short side of the frames, 0 keeps the size (default: 256 for kinetics400, else 0)", default=None
    )
    quality: int = option("JPEG quality", default=95)
    fps: float | None = option("constant frame rate (default: every frame once)", default=None)
    decoder: Decoder = option("video decoder; every frame of opencv is compared with pyav's", default="pyav")
    workers: int | None = option("processes that decode (default: one per core)", default=None)
    on_bad: OnBad | None = option(
        "stop at a missing or unreadable video, or skip it (default: skip for kinetics400, else fail)",
        default=None,
    )
    packs: bool = option("also write StNet's .pkl packs; kinetics400 only", default=False)
    ray: str | None = ray_option()

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, found {self.workers}.")
        if self.packs and self.dataset != "kinetics400":
            raise UsageError("--packs are for StNet, which uses kinetics400 only.")

    @property
    def settings(self) -> ExtractionSettings:
        """The settings of frame extraction; raises UsageError for invalid values."""
        short_side = DATA_SETS[self.dataset].short_side if self.short_side is None else self.short_side
        return ExtractionSettings(
            decoder=self.decoder, short_side=short_side, quality=self.quality, fps=self.fps
        )


def prepare(options: PrepareOptions) -> tuple[PreparedSplit, ...]:
    """Write the frames, lists and label files of the data set in `src` to `out` and return its splits.

    An interrupted run resumes when repeated and ends with the same bytes. A split without any video is left out.
    Raises UsageError for downloads that are not found and for a class count other than `num_classes`, BadDataError for
    contradictory annotations and, unless `on_bad` is "skip", for videos that are missing or unreadable,
    UnavailableError for a disk that is too small, and where another process works in `out`.
    """
    with locked_folder(options.out):
        return _prepare(options)


def _prepare(options: PrepareOptions) -> tuple[PreparedSplit, ...]:
    defaults, settings = DATA_SETS[options.dataset], options.settings
    workers = options.workers or usable_cores()
    out, on_bad = options.out, options.on_bad or defaults.on_bad
    data = defaults.locate(Source(options.src, out, options.class_list))
    _check_class_count(data, options.dataset, options.num_classes or defaults.num_classes)
    splits = _present(data, options.src, on_bad)
    with (
        open_ray_cluster(options.ray, cores=workers, shared=out, needs=(options.src,))
        if options.ray
        else nullcontext() as cluster
    ):
        results = (
            count_extracted(splits, on_bad)
            if data.extracted
            else _extracted(options, splits, workers=workers, on_bad=on_bad, cluster=cluster)
        )
        prepared = _listed(data, splits, results, out)
        if options.packs:
            for split in prepared:
                write_packs(split, out / "packs", workers=workers, cluster=cluster)
    write_labels(out, data.labels)
    record = {} if data.extracted else settings.record()
    write_record(out, dataset=options.dataset, data=data, settings=record, splits=prepared)
    return prepared


def _extracted(
    options: PrepareOptions,
    splits: Sequence[Split],
    *,
    workers: int,
    on_bad: OnBad,
    cluster: RayCluster | None,
) -> dict[str, Extracted]:
    """Extract the frames of the splits, and return the result of each by its job id."""
    return extract_all(
        extraction_jobs(splits, options.out, options.settings),
        settings=options.settings,
        out=options.out,
        workers=workers,
        on_bad=on_bad,
        space_factor=_SPACE_WITH_PACKS if options.packs else 1,
        cluster=cluster,
    )


def _check_class_count(data: DataSet, dataset: str, expected: int | None) -> None:
    if expected is not None and len(data.labels) != expected:
        raise UsageError(
            f"{data.classes_from} gives {dataset} {len(data.labels)} classes, but {expected} are expected. If the "
            "checkpoint's classes differ or one is missing in the middle, all labels after it would be wrong. Pass "
            f"--class_list with the checkpoint's {expected} names in its order, one per line, or --num_classes "
            f"{len(data.labels)} if that is intended, for example to train your own network."
        )


def _present(data: DataSet, src: Path, on_bad: OnBad) -> tuple[Split, ...]:
    """Return the splits with videos; raise BadDataError if some are missing, unless `on_bad` is "skip"."""
    present = []
    for split in data.splits:
        missing = [entry.name for entry in split.entries if entry.video is None]
        if not split.entries:
            continue
        if len(missing) == len(split.entries):
            _log.warning(
                f"{split.title}: none of its {len(missing):,} videos is in {split.video_root}; skipped."
            )
            continue
        if missing and on_bad == "fail":
            raise BadDataError(
                f"{len(missing):,} of the {len(split.entries):,} videos of {split.title} are not in "
                f"{split.video_root}: {', '.join(missing[:10])}{' and so on' if len(missing) > 10 else ''}. Download "
                "them, or use --on_bad skip to continue without them; preparation.json then lists them."
            )
        present.append(split)
    if not present:
        raise BadDataError(f"None of the annotated videos is in {src}. Check --src and the folder names.")
    return tuple(present)


def _listed(
    data: DataSet, splits: Sequence[Split], results: Mapping[str, Extracted], out: Path
) -> tuple[PreparedSplit, ...]:
    """Write the lists of the splits, and return the splits with their frames."""
    prepared = tuple(
        prepared_split(
            split,
            frame_root=split.video_root if data.extracted else out / split.frame_root,
            results=results,
        )
        for split in splits
    )
    for split in prepared:
        write_lists(out, split, videos=not data.extracted)
    return prepared


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, prepare, and print the content and the paths of the lists."""
    options = read_options(PrepareOptions, argv)
    for split in prepare(options):
        print(split.summary)
        print(f"  {options.out / split.split.list_name.format('rawframes')}  --data_root {split.frame_root}")


if __name__ == "__main__":
    run(main)
